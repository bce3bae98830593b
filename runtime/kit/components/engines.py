"""What every knowledge engine must do. Its creation schema must do without settings."""

from collections.abc import Sequence

from portway.rpc.errors import InvalidInput, NotFound
from portway.runtime.kit.behaviours import expect
from portway.runtime.kit.components.end import END, document_frames
from portway.runtime.kit.components.trying import ComponentBehaviour, Tried, refusal
from portway.runtime.kit.subject import Differs
from portway.runtime.sdk.components.documents import Section
from portway.v1 import component_pb2 as pb

BASE = "kit"
TIDES = [Section("The tide rises twice a day along the coast.", ("Tides",)), Section("Moon and sun pull the water.")]
BREAD = [Section("Flour, water, salt and yeast make bread.", ("Bread",), 3)]


async def makes_an_index_once(tried: Tried) -> None:
    await tried.end.create(BASE)
    await tried.end.create(BASE)
    state = await tried.end.describe(BASE)
    expect((state.document_count, state.chunk_count), (0, 0), "what a new index holds")


async def knows_no_index_that_is_not_there(tried: Tried) -> None:
    end = tried.end
    await refusal("describe_index", end.describe("nowhere"), NotFound)
    await refusal("retrieve_chunks", end.retrieve("nowhere", "tide"), NotFound)
    await refusal("remove_documents", end.remove("nowhere", "a"), NotFound)
    await refusal("ingest_documents", end.ingest("nowhere", {"tides": TIDES}), NotFound)
    await end.delete("nowhere")


async def finds_what_it_took_in(tried: Tried) -> None:
    await _filled(tried)
    hits = await tried.end.retrieve(BASE, "when does the tide rise")
    expect(hits[0].document_id if hits else "", "tides", "the document of the first hit")
    if "tide" not in hits[0].text.lower():
        raise Differs(f"the first hit is {hits[0].text!r}")
    scores = [hit.score for hit in hits]
    expect(scores, sorted(scores, reverse=True), "the scores, best first")
    if any(not hit.chunk_id or hit.knowledge_base_id != BASE for hit in hits):
        raise Differs("a hit does not name its chunk and knowledge base")


async def keeps_to_top_k(tried: Tried) -> None:
    await _filled(tried)
    await tried.end.ingest(BASE, {f"more-{number}": TIDES for number in range(8)})
    expect(len(await tried.end.retrieve(BASE, "tide", top_k=3)), 3, "how many hits came for top_k 3")
    expect(len(await tried.end.retrieve(BASE, "tide")), 5, "how many hits came where nothing is said")


async def refuses_an_empty_question(tried: Tried) -> None:
    await _filled(tried)
    await refusal("an empty question", tried.end.retrieve(BASE, ""), InvalidInput)
    await refusal("a question of spaces", tried.end.retrieve(BASE, "  \n"), InvalidInput)


async def replaces_and_removes(tried: Tried) -> None:
    await _filled(tried)
    await tried.end.ingest(BASE, {"bread": [Section("Rye and rye alone.")]})
    state = await tried.end.describe(BASE)
    expect(state.document_count, 2, "how many documents there are after one was replaced")
    expect([one.document_id for one in await tried.end.retrieve(BASE, "yeast")], [], "hits of what was replaced")
    expect(await tried.end.remove(BASE, "bread", "never"), 1, "how many documents it says that it took out")
    expect(await tried.end.remove(BASE, "bread"), 0, "the same again")
    expect([one.document_id for one in await tried.end.retrieve(BASE, "rye")], [], "hits of what was taken out")


async def tells_each_document(tried: Tried) -> None:
    await tried.end.create(BASE)
    outcomes = await tried.end.ingest(BASE, {"tides": TIDES, "": TIDES, "bread": BREAD})
    expect([one.document_id for one in outcomes], ["tides", "", "bread"], "whose outcomes it told")
    expect([bool(one.error.code) for one in outcomes], [False, True, False], "which of them failed")
    if any(one.chunk_count < 1 for one in outcomes if not one.error.code):
        raise Differs("a document that was taken in has no chunk")


async def takes_no_half_document(tried: Tried) -> None:
    await tried.end.create(BASE)
    start = tried.end.start(ingest_documents=pb.IngestDocuments(knowledge_base_id=BASE))
    async with tried.end.talk(start) as talk:
        whole = [*document_frames("tides", TIDES)]
        half = [frame for frame in document_frames("bread", BREAD) if frame != END]
        await talk.send(*whole)
        await talk.until("outcome")
        # The host goes away amid the second document.
        await talk.send(*half)
    state = await tried.end.describe(BASE)
    expect([one.document_id for one in state.documents], ["tides"], "what it holds after half a document")


async def keeps_what_it_has(tried: Tried) -> None:
    """An index outlives its process. (It may be lost, and then it is not found: that is no answer of this one.)"""
    await _filled(tried)
    await tried.subject.recycle()
    state = await tried.end.describe(BASE)
    expect(state.document_count, 2, "how many documents the next process has")
    expect({one.sha256 for one in state.documents}, {"digest of tides", "digest of bread"}, "their digests")
    page = await tried.end.describe(BASE, limit=1)
    expect((len(page.documents), page.has_more), (1, True), "a page of one document")
    rest = await tried.end.describe(BASE, after=page.documents[0].document_id)
    expect((len(rest.documents), rest.has_more), (1, False), "the page after it")


async def keeps_workspaces_apart(tried: Tried) -> None:
    await _filled(tried)
    other = tried.other(f"another-{tried.end.workspace_id}")
    await refusal("an index of another workspace", other.describe(BASE), NotFound)
    await other.create(BASE)
    expect(await other.retrieve(BASE, "tide"), [], "what another workspace finds")
    await other.delete(BASE)
    expect((await tried.end.describe(BASE)).document_count, 2, "what is left after another workspace deleted its own")


async def forgets(tried: Tried) -> None:
    await _filled(tried)
    await tried.end.delete(BASE)
    await tried.end.delete(BASE)
    await refusal("a deleted index", tried.end.retrieve(BASE, "tide"), NotFound)
    await tried.end.create(BASE)
    expect((await tried.end.describe(BASE)).document_count, 0, "what a new index of the same name holds")


async def _filled(tried: Tried) -> None:
    await tried.end.create(BASE)
    await tried.end.ingest(BASE, {"tides": TIDES, "bread": BREAD})


GENERAL: Sequence[ComponentBehaviour] = (
    ComponentBehaviour("makes an index, and the same again changes nothing", makes_an_index_once),
    ComponentBehaviour("knows no index that is not there", knows_no_index_that_is_not_there),
    ComponentBehaviour("finds what it took in, best first", finds_what_it_took_in),
    ComponentBehaviour("gives no more hits than were asked for", keeps_to_top_k),
    ComponentBehaviour("refuses an empty question", refuses_an_empty_question),
    ComponentBehaviour("replaces documents, and takes them out", replaces_and_removes),
    ComponentBehaviour("tells each document what became of it", tells_each_document),
    ComponentBehaviour("takes no half document in", takes_no_half_document),
    ComponentBehaviour("has its index again in the next process", keeps_what_it_has),
    ComponentBehaviour("keeps workspaces apart", keeps_workspaces_apart),
    ComponentBehaviour("forgets a deleted index", forgets),
)
