"""Whether a zip may be installed, by who signed it."""

from portway.rpc.errors import NotPermitted, Reason, WrongState
from portway.runtime.signing.keys import TrustedKeys


class SignatureRules:
    """The operator's: which keys are trusted, and whether a signature is needed."""

    def __init__(self, trusted: TrustedKeys, *, required: bool) -> None:
        self._trusted = trusted
        self._required = required

    def check(self, key_id: str, signature: bytes, digest: str) -> None:
        """`key_id` is empty where there is no signature. Raises `WrongState` (none where one is needed) and
        `NotPermitted` (by a key that is not trusted, or not of these bytes)."""
        if not key_id:
            if self._required:
                raise WrongState(
                    "the plugin is not signed, and this runtime takes only signed ones "
                    "(runtime.installing.require_signature); sign it with `portway plugin sign`",
                    reason=Reason.SIGNATURE_MISSING,
                )
            return
        if not self._trusted.trusts(key_id):
            raise NotPermitted(
                f"the plugin is signed by the key {key_id[:64]!r}, which is not among "
                "runtime.installing.trusted_keys; ask who made it, then add the key",
                reason=Reason.SIGNATURE_KEY_UNKNOWN,
            )
        if not self._trusted.has_signed(key_id, digest, signature):
            raise NotPermitted(
                f"the signature is not one of the key {key_id!r} over this plugin (SHA-256 {digest}); the file was "
                "changed after it was signed, or it is the signature of another one",
                reason=Reason.SIGNATURE_INVALID,
            )

    def trusts(self, key_id: str) -> bool:
        return self._trusted.trusts(key_id)

    def refusal(self, key_id: str) -> str:
        """Why a version that was installed before may not run now; empty where it may."""
        if not self._required or (key_id and self._trusted.trusts(key_id)):
            return ""
        what = f"is signed by the key {key_id}, which is not trusted any more" if key_id else "is not signed"
        return f"{what}, and runtime.installing.require_signature wants a trusted signature; install a signed version"
