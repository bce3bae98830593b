package main

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "echo/contract/portway/v1"
)

// protocolVersion is the version of the worker contract that this program speaks.
const protocolVersion = 1

// Runner answers one run. Returning nil completes it, an error fails it; ctx ends with a cancel and with the deadline.
type Runner func(ctx context.Context, run *Run) error

// worker is the service that the runtime calls.
type worker struct {
	pb.UnimplementedWorkerServiceServer
	runners  map[string]Runner
	tools    map[string]Tool
	stop     func()
	draining atomic.Bool
	runs     atomic.Int32
}

func newWorker(runners map[string]Runner, tools map[string]Tool, stop func()) *worker {
	return &worker{runners: runners, tools: tools, stop: stop}
}

func (w *worker) Handshake(_ context.Context, request *pb.HandshakeRequest) (*pb.HandshakeResponse, error) {
	if !slices.Contains(request.ProtocolVersions, protocolVersion) {
		return nil, status.Errorf(codes.FailedPrecondition, "this plugin speaks version %d of the contract", protocolVersion)
	}
	answer := &pb.HandshakeResponse{ProtocolVersion: protocolVersion, Sdk: runtime.Version()}
	for name := range w.runners {
		answer.Components = append(answer.Components, &pb.WorkerComponent{Kind: "AgentRunner", Name: name})
	}
	for name := range w.tools {
		answer.Components = append(answer.Components, &pb.WorkerComponent{Kind: "Tool", Name: name})
	}
	return answer, nil
}

func (w *worker) Ping(context.Context, *pb.PingRequest) (*pb.PingResponse, error) {
	return &pb.PingResponse{RunCount: w.runs.Load()}, nil
}

// DrainWorker lets the runs under way finish; then the server ends, and with it the program.
func (w *worker) DrainWorker(context.Context, *pb.DrainWorkerRequest) (*pb.DrainWorkerResponse, error) {
	if !w.draining.Swap(true) {
		go w.stop()
	}
	return &pb.DrainWorkerResponse{RunCount: w.runs.Load()}, nil
}

func (w *worker) RunAgent(stream pb.WorkerService_RunAgentServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(first.Frames) == 0 || first.Frames[0].GetStart() == nil {
		return status.Error(codes.InvalidArgument, "the first frame of a run is `start`")
	}
	start := first.Frames[0].GetStart()
	runner, err := w.runner(start.RunnerId)
	if err != nil {
		return err
	}
	w.runs.Add(1)
	defer w.runs.Add(-1)
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	if deadline := start.Context.GetRuntime().GetDeadline(); deadline != nil {
		var free context.CancelFunc
		ctx, free = context.WithDeadlineCause(ctx, deadline.AsTime(), failure{"runner.timeout", "the run's deadline is over"})
		defer free()
	}
	run := newRun(ctx, start, stream.Send)
	go listen(stream, run, first.Frames[1:], cancel)
	return run.end(guarded(runner, ctx, run))
}

// CallTool answers one call. A tool that can tell what became of an earlier one would look at `reconcile`.
func (w *worker) CallTool(request *pb.WorkerServiceCallToolRequest, stream pb.WorkerService_CallToolServer) error {
	tool, known := w.tools[request.Name]
	if !known {
		return status.Errorf(codes.NotFound, "there is no tool %s", request.Name)
	}
	if request.Reconcile {
		return effectUnknown()
	}
	if w.draining.Load() {
		return status.Error(codes.Unavailable, "the plugin takes no new calls")
	}
	w.runs.Add(1)
	defer w.runs.Add(-1)
	ctx := stream.Context()
	if request.Deadline != nil {
		var free context.CancelFunc
		ctx, free = context.WithDeadline(ctx, request.Deadline.AsTime())
		defer free()
	}
	text, err := guardedTool(tool, ctx, &ToolCall{Request: request, send: stream.Send})
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	result := &pb.ToolResult{Text: text}
	if err != nil {
		result = &pb.ToolResult{Text: err.Error(), IsError: true}
	} else if len(text) > maxResultBytes {
		result = &pb.ToolResult{Text: "the result is larger than 1 MiB; give a file", IsError: true}
	}
	return stream.Send(&pb.WorkerServiceCallToolResponse{Kind: &pb.WorkerServiceCallToolResponse_Result{Result: result}})
}

// effectUnknown says that nobody can tell what became of a call; its reason travels as google.rpc.ErrorInfo.
func effectUnknown() error {
	why := status.New(codes.FailedPrecondition, "this tool cannot tell what became of an earlier call")
	detailed, err := why.WithDetails(&errdetails.ErrorInfo{Reason: "EFFECT_UNKNOWN", Domain: "portway"})
	if err != nil {
		return why.Err()
	}
	return detailed.Err()
}

// guardedTool keeps a panic of one tool from ending the others.
func guardedTool(tool Tool, ctx context.Context, call *ToolCall) (text string, err error) {
	defer func() {
		if found := recover(); found != nil {
			log.Printf("\x1e%s\x1f%v\n%s", call.Request.RunId, found, debug.Stack())
			err = fmt.Errorf("the tool panicked; see `portway plugin logs %s`", os.Getenv("PORTWAY_PLUGIN"))
		}
	}()
	return tool(ctx, call)
}

func (w *worker) runner(id string) (Runner, error) {
	if w.draining.Load() {
		return nil, status.Error(codes.Unavailable, "the plugin takes no new runs")
	}
	for name, runner := range w.runners {
		if id == fmt.Sprintf("plugin:%s/%s", os.Getenv("PORTWAY_PLUGIN"), name) {
			return runner, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "there is no runner %s", id)
}

// listen reads what the host says to the run until the run ends.
func listen(stream pb.WorkerService_RunAgentServer, run *Run, frames []*pb.RunInputFrame, cancel context.CancelCauseFunc) {
	for {
		for _, frame := range frames {
			switch {
			case frame.GetCancel() != nil:
				cancel(failure{"cancelled", frame.GetCancel().Reason})
			case frame.GetAnswer() != nil:
				run.answered(frame.GetAnswer())
			case frame.GetCredit() != nil:
				run.credit(frame.GetCredit().Bytes)
			}
		}
		message, err := stream.Recv()
		if err != nil {
			if err != io.EOF {
				cancel(err)
			}
			return
		}
		frames = message.Frames
	}
}

// guarded keeps a panic of one runner from ending the others. The stack is in the plugin's log, not in the answer.
func guarded(runner Runner, ctx context.Context, run *Run) (err error) {
	defer func() {
		if found := recover(); found != nil {
			// A line that begins so is told apart by run.
			log.Printf("\x1e%s\x1f%v\n%s", run.ID, found, debug.Stack())
			err = failure{"runner.error", fmt.Sprintf("the runner panicked; see `portway plugin logs %s`", os.Getenv("PORTWAY_PLUGIN"))}
		}
	}()
	return runner(ctx, run)
}

// cookieCheck refuses everybody but the runtime.
type cookieCheck string

func (c cookieCheck) check(ctx context.Context) error {
	given := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(given) == 1 && subtle.ConstantTimeCompare([]byte(given[0]), []byte(c)) == 1 {
		return nil
	}
	return status.Error(codes.Unauthenticated, "the cookie is wrong")
}

func (c cookieCheck) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

func (c cookieCheck) stream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := c.check(stream.Context()); err != nil {
		return err
	}
	return next(service, stream)
}
