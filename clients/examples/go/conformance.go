package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/protobuf/encoding/protowire"

	pb "echo/contract/portway/v1"
)

// conformance does what the first word of the message says. `portway plugin test` and the suite of Portway ask for it;
// a plugin of your own may leave it out. The second half misbehaves on purpose: it shows what becomes of such a runner.
func conformance(ctx context.Context, run *Run) error {
	word, rest, _ := strings.Cut(run.Text(), " ")
	switch word {
	case "ok":
		return run.Message(rest)
	case "streamed":
		return streamed(run, strings.Fields(rest))
	case "empty":
		return nil
	case "fail":
		run.Delta("about to fail")
		return failure{"harness.cli_missing", "the program is not installed"}
	case "raises":
		panic("raised on purpose")
	case "flood":
		return flood(run, rest)
	case "history":
		return history(ctx, run, rest)
	case "not_granted":
		search := &pb.SearchHistoryRequest{Query: "anything"}
		_, err := run.Call(ctx, &pb.RunCall{Kind: &pb.RunCall_SearchHistory{SearchHistory: search}})
		return err
	case "about":
		return run.Message(strconv.Itoa(os.Getpid()))
	case "oversize":
		return run.Delta(strings.Repeat("x", maxResultBytes+1))
	case "hang", "stubborn", "crash":
		return waiting(ctx, run, word)
	}
	return misbehave(run, word)
}

func streamed(run *Run, words []string) error {
	for _, word := range words {
		if err := run.Delta(word); err != nil {
			return err
		}
	}
	return run.Message(strings.Join(words, ""))
}

func flood(run *Run, count string) error {
	total, err := strconv.Atoi(count)
	for number := 0; err == nil && number < total; number++ {
		err = run.Delta(fmt.Sprintf("%d ", number))
	}
	return err
}

func history(ctx context.Context, run *Run, limit string) error {
	number, err := strconv.Atoi(limit)
	if err != nil {
		return err
	}
	page := &pb.PageHistoryRequest{Before: run.Start.Context.GetContext().GetLatestCursor(), Limit: int32(number)}
	answer, err := run.Call(ctx, &pb.RunCall{Kind: &pb.RunCall_PageHistory{PageHistory: page}})
	if err != nil {
		return err
	}
	var texts []string
	for _, item := range answer.GetPageHistory().GetItems() {
		texts = append(texts, item.Content)
	}
	return run.Message(strings.Join(texts, "|"))
}

func waiting(ctx context.Context, run *Run, word string) error {
	run.Delta("waiting")
	if err := run.Flush(); err != nil {
		return err
	}
	switch word {
	case "crash":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "stubborn":
		select {}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// misbehave goes around the checks of Run: this is what a host must bear.
func misbehave(run *Run, word string) error {
	part := &pb.ContentPart{Kind: &pb.ContentPart_Text{Text: &pb.TextPart{Text: "done"}}}
	message := &pb.Message{Role: pb.MessageRole_MESSAGE_ROLE_ASSISTANT, Parts: []*pb.ContentPart{part}}
	completed := &pb.RunCompleted{Message: &pb.MessageCompleted{Message: message}}
	done := &pb.RunResult{Sequence: 1, Kind: &pb.RunResult_RunCompleted{RunCompleted: completed}}
	progress := &pb.RunResult{Sequence: 1, Kind: &pb.RunResult_Progress{Progress: &pb.Progress{Text: "at work"}}}
	switch word {
	case "no_terminal":
		return run.raw(progress)
	case "after_terminal":
		progress.Sequence = 2
		return run.raw(done, progress)
	case "wrong_sequence":
		done.Sequence = 7
		return run.raw(done)
	case "wrong_run":
		progress.RunId, done.RunId, done.Sequence = "run_of_another", "run_of_another", 2
		return run.raw(progress, done)
	case "unknown_kind":
		// A kind with the number 99, as a later version of the contract may have.
		unknown := &pb.RunResult{Sequence: 1}
		unknown.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "new"))
		done.Sequence = 2
		return run.raw(unknown, done)
	case "raw_oversize":
		large := &pb.MessageDelta{Kind: &pb.MessageDelta_Text{Text: strings.Repeat("x", maxResultBytes+1)}}
		return run.raw(&pb.RunResult{Sequence: 1, Kind: &pb.RunResult_MessageDelta{MessageDelta: large}})
	case "malformed":
		run.done = true
		message := &pb.WorkerServiceRunAgentResponse{}
		// The tag of `frames` with a length that never ends.
		message.ProtoReflect().SetUnknown([]byte{0x0a, 0xff, 0xff, 0xff})
		return run.write(message)
	case "call_after_end":
		if err := run.raw(done); err != nil {
			return err
		}
		page := &pb.RunCall{CallId: 1, Kind: &pb.RunCall_PageHistory{PageHistory: &pb.PageHistoryRequest{}}}
		return run.ask(page)
	}
	return failure{"runner.error", "there is no behaviour " + word}
}

// raw says results as they are, and nothing after them.
func (r *Run) raw(results ...*pb.RunResult) error {
	r.done = true
	message := &pb.WorkerServiceRunAgentResponse{}
	for _, result := range results {
		frame := &pb.RunOutputFrame{Kind: &pb.RunOutputFrame_Result{Result: result}}
		message.Frames = append(message.Frames, frame)
	}
	return r.write(message)
}
