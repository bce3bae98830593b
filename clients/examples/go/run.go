package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "echo/contract/portway/v1"
)

const (
	maxFrames       = 64
	maxMessageBytes = 256 << 10
	maxResultBytes  = 1 << 20
)

// failure ends a run with a published code.
type failure struct{ code, message string }

func (f failure) Error() string { return f.message }

// Run is one run: what it was given, and what it may say and ask. Its methods may be used by several goroutines.
type Run struct {
	ID    string
	Start *pb.RunStart
	ctx   context.Context
	write func(*pb.WorkerServiceRunAgentResponse) error

	sending  sync.Mutex
	sequence int64
	frames   []*pb.RunOutputFrame
	size     int
	done     bool

	mutex   sync.Mutex
	calls   map[int64]chan *pb.RunAnswer
	called  int64
	allowed int64
	more    chan struct{}
}

func newRun(ctx context.Context, start *pb.RunStart, write func(*pb.WorkerServiceRunAgentResponse) error) *Run {
	return &Run{
		ID: start.Context.GetRunId(), Start: start, ctx: ctx, write: write,
		calls: map[int64]chan *pb.RunAnswer{}, allowed: start.CreditBytes, more: make(chan struct{}, 1),
	}
}

// Text is what the person said.
func (r *Run) Text() string { return r.Start.Context.GetInput().GetText() }

// Delta says a piece of the answer. Pieces travel together: 64 of them, or what there is with the next Flush.
func (r *Run) Delta(text string) error {
	return r.result(&pb.RunResult{Kind: &pb.RunResult_MessageDelta{
		MessageDelta: &pb.MessageDelta{MessageKey: "m", Kind: &pb.MessageDelta_Text{Text: text}},
	}})
}

// Message says the whole answer; it replaces the pieces.
func (r *Run) Message(text string) error {
	part := &pb.ContentPart{Kind: &pb.ContentPart_Text{Text: &pb.TextPart{Text: text}}}
	message := &pb.Message{Role: pb.MessageRole_MESSAGE_ROLE_ASSISTANT, Parts: []*pb.ContentPart{part}}
	return r.result(&pb.RunResult{Kind: &pb.RunResult_MessageCompleted{
		MessageCompleted: &pb.MessageCompleted{MessageKey: "m", Message: message},
	}})
}

// Flush sends what was said and did not travel yet.
func (r *Run) Flush() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	return r.flush()
}

// Call asks the host something and waits for the answer. What the host refuses is an error.
func (r *Run) Call(ctx context.Context, call *pb.RunCall) (*pb.RunAnswer, error) {
	answer := make(chan *pb.RunAnswer, 1)
	r.mutex.Lock()
	r.called++
	call.CallId = r.called
	r.calls[call.CallId] = answer
	r.mutex.Unlock()
	defer func() {
		r.mutex.Lock()
		delete(r.calls, call.CallId)
		r.mutex.Unlock()
	}()
	if err := r.ask(call); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case got := <-answer:
		if refused := got.GetError(); refused != nil {
			return nil, failure{"runner.error", fmt.Sprintf("%s (%s)", refused.Message, refused.Reason)}
		}
		return got, nil
	}
}

func (r *Run) result(result *pb.RunResult) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.sequence++
	result.RunId, result.Sequence = r.ID, r.sequence
	if proto.Size(result) > maxResultBytes {
		r.sequence--
		return failure{"runner.protocol", "a result is larger than 1 MiB; larger content goes through artifacts"}
	}
	return r.put(&pb.RunOutputFrame{Kind: &pb.RunOutputFrame_Result{Result: result}})
}

// ask sends a call at once, after what was said before it.
func (r *Run) ask(call *pb.RunCall) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if err := r.put(&pb.RunOutputFrame{Kind: &pb.RunOutputFrame_Call{Call: call}}); err != nil {
		return err
	}
	return r.flush()
}

func (r *Run) put(frame *pb.RunOutputFrame) error {
	size := proto.Size(frame)
	if len(r.frames) > 0 && r.size+size > maxMessageBytes {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.frames = append(r.frames, frame)
	r.size += size
	if len(r.frames) < maxFrames && r.size < maxMessageBytes {
		return nil
	}
	return r.flush()
}

// flush waits for credit of the host where it is used up, and for the connection: a fast runner is slowed down here.
func (r *Run) flush() error {
	if len(r.frames) == 0 {
		return nil
	}
	for r.Start.CreditBytes > 0 && r.left() <= 0 {
		select {
		case <-r.more:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
	err := r.write(&pb.WorkerServiceRunAgentResponse{Frames: r.frames})
	r.credit(-int64(r.size))
	r.frames, r.size = nil, 0
	return err
}

func (r *Run) left() int64 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.allowed
}

func (r *Run) credit(bytes int64) {
	r.mutex.Lock()
	r.allowed += bytes
	r.mutex.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *Run) answered(answer *pb.RunAnswer) {
	r.mutex.Lock()
	waiting := r.calls[answer.CallId]
	r.mutex.Unlock()
	// An answer may come in several parts; the calls that this program knows have one.
	select {
	case waiting <- answer:
	default:
	}
}

// end says the one terminal result.
func (r *Run) end(err error) error {
	if r.done {
		return r.Flush()
	}
	terminal := &pb.RunResult{Kind: &pb.RunResult_RunCompleted{
		RunCompleted: &pb.RunCompleted{FinishReason: pb.FinishReason_FINISH_REASON_STOP},
	}}
	if err != nil {
		why := failure{"runner.error", err.Error()}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			err = context.Cause(r.ctx)
		}
		errors.As(err, &why)
		terminal.Kind = &pb.RunResult_RunFailed{
			RunFailed: &pb.RunFailed{Error: &pb.RunError{Code: why.code, Message: why.message}},
		}
	}
	if said := r.result(terminal); said != nil {
		return said
	}
	return r.Flush()
}
