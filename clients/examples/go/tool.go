package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	pb "echo/contract/portway/v1"
)

// maxPieceBytes is how much of a file travels at once.
const maxPieceBytes = 256 << 10

// ToolCall is one call of a tool: what it was given, and what it may say before its result.
type ToolCall struct {
	Request *pb.WorkerServiceCallToolRequest
	send    func(*pb.WorkerServiceCallToolResponse) error
}

// Tool answers one call. An error becomes a result that says so; ctx ends with a cancel and with the deadline.
type Tool func(ctx context.Context, call *ToolCall) (string, error)

// Text is an argument; empty where it was not given.
func (c *ToolCall) Text(name string) string {
	return c.Request.Arguments.GetFields()[name].GetStringValue()
}

// Progress shows a short line about how far the tool is.
func (c *ToolCall) Progress(text string) error {
	progress := &pb.Progress{Text: text}
	return c.send(&pb.WorkerServiceCallToolResponse{Kind: &pb.WorkerServiceCallToolResponse_Progress{Progress: progress}})
}

// File gives a file, which becomes an artifact of the run.
func (c *ToolCall) File(name, mimeType string, content []byte) error {
	for {
		size := min(len(content), maxPieceBytes)
		piece := &pb.ToolFilePiece{Name: name, MimeType: mimeType, Data: content[:size], Last: size == len(content)}
		err := c.send(&pb.WorkerServiceCallToolResponse{Kind: &pb.WorkerServiceCallToolResponse_File{File: piece}})
		if err != nil || piece.Last {
			return err
		}
		name, mimeType, content = "", "", content[size:]
	}
}

// shout is a tool for models: it says a text in capital letters.
func shout(_ context.Context, call *ToolCall) (string, error) {
	return strings.ToUpper(call.Text("text")), nil
}

// toolConformance plays the words of the suite for tools; a plugin of your own may leave it out.
func toolConformance(ctx context.Context, call *ToolCall) (string, error) {
	text := call.Text("text")
	switch word := call.Text("word"); word {
	case "ok":
		return text, nil
	case "error":
		return "", errors.New("it cannot be done")
	case "raises":
		panic("raised on purpose")
	case "oversize":
		return strings.Repeat("x", maxResultBytes+1), nil
	case "flood":
		total, err := strconv.Atoi(text)
		for number := 0; err == nil && number < total; number++ {
			err = call.Progress(strconv.Itoa(number))
		}
		return "done", err
	case "file":
		return "there it is", call.File("words.txt", "text/plain", []byte(text))
	case "caller":
		return call.Request.Caller.GetWorkspaceId() + " " + call.Request.Caller.GetRunId(), nil
	case "hang", "stubborn", "crash":
		if err := call.Progress("waiting"); err != nil {
			return "", err
		}
		switch word {
		case "crash":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "stubborn":
			select {}
		}
		<-ctx.Done()
		return "", context.Cause(ctx)
	default:
		return "", fmt.Errorf("there is no behaviour %q", word)
	}
}
