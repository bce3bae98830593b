// A plugin for Portway in Go. The runtime starts it with a Unix socket to serve, and is its only client.
//
// echo.go is the runner: begin there. run.go is one run as a runner sees it, tool.go a tool, worker.go the service that
// the runtime calls, and conformance.go what `portway plugin test` asks for.
package main

import (
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"

	pb "echo/contract/portway/v1"
)

func main() {
	log.SetFlags(0)
	cookie, err := os.ReadFile(os.Getenv("PORTWAY_COOKIE_FILE"))
	if err != nil {
		log.Fatalf("PORTWAY_COOKIE_FILE: %v; a plugin is started by Portway", err)
	}
	listener, err := net.Listen("unix", os.Getenv("PORTWAY_SOCKET"))
	if err != nil {
		log.Fatalf("PORTWAY_SOCKET: %v", err)
	}
	check := cookieCheck("Bearer " + string(cookie))
	server := grpc.NewServer(
		grpc.UnaryInterceptor(check.unary),
		grpc.StreamInterceptor(check.stream),
		grpc.MaxRecvMsgSize(8<<20),
	)
	runners := map[string]Runner{"default": echo, "conformance": conformance}
	tools := map[string]Tool{"shout": shout, "conformance": toolConformance}
	worker := newWorker(runners, tools, server.GracefulStop)
	pb.RegisterWorkerServiceServer(server, worker)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
