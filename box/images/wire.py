"""Images between the contract and this folder's types."""

from portway.box.images.directory import Pulling
from portway.box.images.types import Image, Stage, Validation
from portway.box.sessions.wire import timestamp
from portway.v1 import image_pb2 as pb

_STAGE_TO = {
    Stage.SUBMITTED: pb.IMAGE_VALIDATION_STAGE_SUBMITTED,
    Stage.PULLING: pb.IMAGE_VALIDATION_STAGE_PULLING,
    Stage.STARTING: pb.IMAGE_VALIDATION_STAGE_STARTING,
    Stage.RUNNING_CHECKS: pb.IMAGE_VALIDATION_STAGE_RUNNING_CHECKS,
    Stage.COMPLETED: pb.IMAGE_VALIDATION_STAGE_COMPLETED,
    Stage.FAILED: pb.IMAGE_VALIDATION_STAGE_FAILED,
}


def image_to(image: Image, session_count: int = 0) -> pb.Image:
    return pb.Image(
        name=image.name.name,
        digest=image.digest,
        size=image.size,
        backend=image.backend,
        create_time=timestamp(image.create_time),
        workspace_id=image.name.workspace_id,
        architecture=image.architecture,
        entry_count=image.entry_count,
        session_count=session_count,
        source=image.source,
    )


def pulling_to(step: Pulling) -> pb.PullImageResponse:
    return pb.PullImageResponse(
        received_bytes=step.received_bytes,
        total_bytes=step.total_bytes,
        image=image_to(step.image) if step.image is not None else None,
        notes=step.notes,
    )


def validation_to(validation: Validation) -> pb.ImageValidation:
    return pb.ImageValidation(
        validation_id=validation.validation_id,
        image=validation.image,
        stage=_STAGE_TO[validation.stage],
        checks=[pb.ImageCheck(name=one.name, passed=one.passed, message=one.message) for one in validation.checks],
        reason=validation.reason,
        create_time=timestamp(validation.create_time),
        end_time=timestamp(validation.end_time) if validation.end_time else None,
        digest=validation.digest,
        received_bytes=validation.received_bytes,
        total_bytes=validation.total_bytes,
    )
