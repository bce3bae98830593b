package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "echo/contract/portway/v1"
)

// echo says what it was told, word by word. It asks the host how many messages there were before, and stops between two
// words when it is cancelled or its time is over.
func echo(ctx context.Context, run *Run) error {
	before, err := messagesBefore(ctx, run)
	if err != nil {
		return err
	}
	answer := fmt.Sprintf("You said: %s (after %d messages)", run.Text(), before)
	for index, word := range strings.SplitAfter(answer, " ") {
		if index > 0 {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		if err := run.Delta(word); err != nil {
			return err
		}
		if err := run.Flush(); err != nil {
			return err
		}
	}
	return run.Message(answer)
}

// messagesBefore counts the last messages of the conversation, at most 100. The cursor leaves out the one being answered.
func messagesBefore(ctx context.Context, run *Run) (int, error) {
	before := run.Start.Context.GetContext().GetLatestCursor()
	page := &pb.PageHistoryRequest{Before: before, Limit: 100}
	answer, err := run.Call(ctx, &pb.RunCall{Kind: &pb.RunCall_PageHistory{PageHistory: page}})
	if err != nil {
		return 0, err
	}
	return len(answer.GetPageHistory().GetItems()), nil
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-time.After(length):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
