package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const echo = "test.rpc.v1.Echo"

func withTtrpc(socket string, run func(ctx context.Context, client *ttrpc.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	return run(ctx, client)
}

// ttrpcCalls calls each kind of method.
func ttrpcCalls(socket string) error {
	return withTtrpc(socket, func(ctx context.Context, client *ttrpc.Client) error {
		call := func(ctx context.Context, o order) (string, error) {
			out := &wrapperspb.BytesValue{}
			err := client.Call(ctx, echo, "Unary", o.message(), out)
			return string(out.Value), err
		}
		named := ttrpc.WithMetadata(ctx, ttrpc.MD{"containerd-namespace-ttrpc": []string{"k8s.io"}})
		if got, err := call(named, order{Reply: "$namespace"}); err != nil || got != "k8s.io" {
			return fmt.Errorf("namespace: %q %w", got, err)
		}
		if err := all(500, func(i int) error {
			want := strings.Repeat("x", i*20)
			if got, err := call(ctx, order{Reply: want}); err != nil || got != want {
				return fmt.Errorf("%d bytes, %w", len(got), err)
			}
			return nil
		}); err != nil {
			return err
		}
		_, err := call(ctx, order{Code: "not-found", Message: "nowhere: not found"})
		if err := expectCode("words", err, codes.NotFound, "nowhere: not found"); err != nil {
			return err
		}
		err = client.Call(ctx, "Nobody", "Unary", order{}.message(), &wrapperspb.BytesValue{})
		if err := expectCode("service", err, codes.Unimplemented, "service Nobody"); err != nil {
			return err
		}
		err = client.Call(ctx, echo, "Nothing", order{}.message(), &wrapperspb.BytesValue{})
		if err := expectCode("method", err, codes.Unimplemented, "method Nothing"); err != nil {
			return err
		}
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		// Both sides keep the deadline: whichever is first, its word is the answer.
		_, err = call(late, order{SleepMs: 60_000})
		if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
			return fmt.Errorf("deadline: %w", err)
		}
		return ttrpcStreams(ctx, client)
	})
}

func ttrpcStreams(ctx context.Context, client *ttrpc.Client) error {
	down, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingServer: true}, echo, "Down",
		order{Count: 100, Size: 10_000}.message())
	if err != nil {
		return err
	}
	for i := range 101 {
		message := &wrapperspb.BytesValue{}
		err := down.RecvMsg(message)
		if i == 100 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(message.Value) != 10_000 {
			return fmt.Errorf("down %d: %d bytes, %w", i, len(message.Value), err)
		}
	}
	both, err := client.NewStream(ctx,
		&ttrpc.StreamDesc{StreamingClient: true, StreamingServer: true}, echo, "Both", nil)
	if err != nil {
		return err
	}
	for i := range 100 {
		want := strings.Repeat("y", i)
		if err := both.SendMsg(wrapperspb.String(want)); err != nil {
			return err
		}
		message := &wrapperspb.BytesValue{}
		if err := both.RecvMsg(message); err != nil || string(message.Value) != want {
			return fmt.Errorf("both %d: %q, %w", i, message.Value, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		return err
	}
	if err := both.RecvMsg(&wrapperspb.BytesValue{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the end: %w", err)
	}
	up, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingClient: true}, echo, "Up", nil)
	if err != nil {
		return err
	}
	for range 10 {
		if err := up.SendMsg(wrapperspb.String("z")); err != nil {
			return err
		}
	}
	if err := up.CloseSend(); err != nil {
		return err
	}
	message := &wrapperspb.BytesValue{}
	if err := up.RecvMsg(message); err != nil || !strings.HasPrefix(string(message.Value), "10 ") {
		return fmt.Errorf("up: %q, %w", message.Value, err)
	}
	return nil
}

// ttrpcStreamFull sends to a handler that reads nothing: its stream ends, the connection goes on.
func ttrpcStreamFull(socket string) error {
	return withTtrpc(socket, func(ctx context.Context, client *ttrpc.Client) error {
		up, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingClient: true}, echo, "Up", nil)
		if err != nil {
			return err
		}
		if err := up.SendMsg(wrapperspb.String("stall")); err != nil {
			return err
		}
		for range 80 {
			if err := up.SendMsg(wrapperspb.String("z")); err != nil {
				return err
			}
		}
		err = up.RecvMsg(&wrapperspb.BytesValue{})
		if err := expectCode("full", err, codes.InvalidArgument, "ttrpc: stream buffer full"); err != nil {
			return err
		}
		out := &wrapperspb.BytesValue{}
		if err := client.Call(ctx, echo, "Unary", order{Reply: "ok"}.message(), out); err != nil {
			return fmt.Errorf("after a full stream: %w", err)
		}
		return nil
	})
}

// ttrpcServe serves the service until standard input ends.
func ttrpcServe(socket string) error {
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server.RegisterService(echo, &ttrpc.ServiceDesc{
		Methods: map[string]ttrpc.Method{"Unary": serveUnary},
		Streams: map[string]ttrpc.Stream{
			"Down": {Handler: serveDown, StreamingServer: true},
			"Up":   {Handler: serveUp, StreamingClient: true},
			"Both": {Handler: serveBoth, StreamingClient: true, StreamingServer: true},
		},
	})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	fmt.Println("ready")
	if err := server.Serve(context.Background(), listener); !errors.Is(err, ttrpc.ErrServerClosed) {
		return err
	}
	return nil
}

func serveUnary(ctx context.Context, unmarshal func(interface{}) error) (interface{}, error) {
	in := &wrapperspb.BytesValue{}
	if err := unmarshal(in); err != nil {
		return nil, err
	}
	switch string(in.Value) {
	case "namespace":
		name, _ := ttrpc.GetMetadataValue(ctx, "containerd-namespace-ttrpc")
		return wrapperspb.String(name), nil
	case "deadline":
		<-ctx.Done()
		return nil, ctx.Err()
	case "fail":
		return nil, status.Error(codes.AlreadyExists, "task x: already exists")
	case "die":
		os.Exit(0)
	}
	return in, nil
}

func serveDown(_ context.Context, stream ttrpc.StreamServer) (interface{}, error) {
	in := &wrapperspb.BytesValue{}
	if err := stream.RecvMsg(in); err != nil {
		return nil, err
	}
	for range 50 {
		if err := stream.SendMsg(in); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func serveUp(_ context.Context, stream ttrpc.StreamServer) (interface{}, error) {
	total := 0
	for {
		in := &wrapperspb.BytesValue{}
		if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
			return wrapperspb.String(fmt.Sprint(total)), nil
		} else if err != nil {
			return nil, err
		}
		total += len(in.Value)
	}
}

func serveBoth(_ context.Context, stream ttrpc.StreamServer) (interface{}, error) {
	for {
		in := &wrapperspb.BytesValue{}
		if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if err := stream.SendMsg(in); err != nil {
			return nil, err
		}
	}
}
