package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	mebibyte   = 1 << 20
	messageMax = 16 * mebibyte
)

type order struct {
	SleepMs int    `json:"sleepMs,omitempty"`
	Reply   string `json:"reply,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Count   int    `json:"count,omitempty"`
	Size    int    `json:"size,omitempty"`
}

func (o order) message() *wrapperspb.BytesValue {
	data, _ := json.Marshal(o)
	return wrapperspb.Bytes(data)
}

func dial(socket string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+socket, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(64*mebibyte), grpc.MaxCallSendMsgSize(64*mebibyte)),
	}, options...)...)
}

func unary(ctx context.Context, conn *grpc.ClientConn, in *wrapperspb.BytesValue, options ...grpc.CallOption) ([]byte, error) {
	out := &wrapperspb.BytesValue{}
	err := conn.Invoke(ctx, "/test.rpc.v1.Echo/Unary", in, out, options...)
	return out.Value, err
}

func open(ctx context.Context, conn *grpc.ClientConn, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ClientStreams: method != "Down", ServerStreams: method != "Up"}
	return conn.NewStream(ctx, desc, "/test.rpc.v1.Echo/"+method, options...)
}

func down(ctx context.Context, conn *grpc.ClientConn, o order) (grpc.ClientStream, error) {
	stream, err := open(ctx, conn, "Down")
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(o.message()); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

func receive(stream grpc.ClientStream) ([]byte, error) {
	message := &wrapperspb.BytesValue{}
	err := stream.RecvMsg(message)
	return message.Value, err
}

func expectCode(what string, err error, code codes.Code, words string) error {
	if got := status.Convert(err); got.Code() != code || !strings.Contains(got.Message(), words) {
		return fmt.Errorf("%s: got %v, want %v %q", what, err, code, words)
	}
	return nil
}

// all runs n functions at once and returns the first error.
func all(n int, run func(i int) error) error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = run(i) })
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%d of %d: %w", i, n, err)
		}
	}
	return nil
}

func with(socket string, run func(ctx context.Context, conn *grpc.ClientConn) error, options ...grpc.DialOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	conn, err := dial(socket, options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	return run(ctx, conn)
}

// streams opens a thousand bidirectional streams, then talks on all of them.
func streams(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		const n = 1000
		opened := make([]grpc.ClientStream, n)
		for i := range n {
			stream, err := open(ctx, conn, "Both")
			if err != nil {
				return err
			}
			opened[i] = stream
		}
		return all(n, func(i int) error {
			for round := range 5 {
				want := fmt.Sprintf("%d/%d", i, round)
				if err := opened[i].SendMsg(wrapperspb.String(want)); err != nil {
					return err
				}
				got, err := receive(opened[i])
				if err != nil || string(got) != want {
					return fmt.Errorf("got %q %v, want %q", got, err, want)
				}
			}
			if err := opened[i].CloseSend(); err != nil {
				return err
			}
			if _, err := receive(opened[i]); !errors.Is(err, io.EOF) {
				return fmt.Errorf("after the end: %v", err)
			}
			return nil
		})
	})
}

// cancels ends thousands of calls by cancel or deadline, and sees every other call answered.
func cancels(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		const n, atOnce = 6000, 64
		gate := make(chan struct{}, atOnce)
		return all(n, func(i int) error {
			gate <- struct{}{}
			defer func() { <-gate }()
			call, cancel := context.WithCancel(ctx)
			defer cancel()
			switch i % 4 {
			case 0:
				_, err := unary(call, conn, order{Reply: "x"}.message())
				return err
			case 1:
				time.AfterFunc(time.Duration(i%7)*300*time.Microsecond, cancel)
				_, err := unary(call, conn, order{SleepMs: 1000}.message())
				return expectCode("cancelled", err, codes.Canceled, "")
			case 2:
				late, end := context.WithTimeout(call, time.Duration(1+i%5)*time.Millisecond)
				defer end()
				_, err := unary(late, conn, order{SleepMs: 1000}.message())
				return expectCode("late", err, codes.DeadlineExceeded, "")
			default:
				stream, err := down(call, conn, order{Count: 100, Size: 1000})
				if err != nil {
					return err
				}
				if _, err := receive(stream); err != nil {
					return err
				}
				return nil // leaving cancels it
			}
		})
	})
}

// stalled leaves a stream unread that the server would fill for ever, and calls beside it.
func stalled(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := down(ctx, conn, order{Count: 64, Size: mebibyte})
		if err != nil {
			return err
		}
		for i := range 300 {
			want := fmt.Sprint(i)
			got, err := unary(ctx, conn, order{Reply: want}.message())
			if err != nil || string(got) != want {
				return fmt.Errorf("beside a stalled stream: %q %w", got, err)
			}
		}
		total := 0
		for {
			data, err := receive(stream)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			total += len(data)
		}
		if total != 64*mebibyte {
			return fmt.Errorf("the stalled stream gave %d bytes", total)
		}
		return nil
	})
}

// blob sends 64 MiB and gets them back, in chunks, each way by itself.
func blob(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		chunk := make([]byte, mebibyte)
		if _, err := rand.Read(chunk); err != nil {
			return err
		}
		up, err := open(ctx, conn, "Up")
		if err != nil {
			return err
		}
		sent := sha256.New()
		for i := range 64 {
			chunk[0] = byte(i)
			sent.Write(chunk)
			if err := up.SendMsg(wrapperspb.Bytes(chunk)); err != nil {
				return err
			}
		}
		if err := up.CloseSend(); err != nil {
			return err
		}
		answer, err := receive(up)
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("64 %x", sent.Sum(nil)); string(answer) != want {
			return fmt.Errorf("sent %s, arrived %s", want, answer)
		}
		stream, err := down(ctx, conn, order{Count: 64, Size: mebibyte})
		if err != nil {
			return err
		}
		for i := range 64 {
			data, err := receive(stream)
			if err != nil || !bytes.Equal(data, bytes.Repeat([]byte{byte(i)}, mebibyte)) {
				return fmt.Errorf("chunk %d: %d bytes, %w", i, len(data), err)
			}
		}
		large := bytes.Repeat([]byte{'"'}, messageMax-64)
		got, err := unary(ctx, conn, wrapperspb.Bytes(large))
		if err != nil || !bytes.Equal(got, large) {
			return fmt.Errorf("largest message: %d bytes, %w", len(got), err)
		}
		return nil
	})
}

// upper is a compressor that no server knows.
type upper struct{}

func (upper) Name() string                                 { return "upper" }
func (upper) Compress(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil }
func (upper) Decompress(r io.Reader) (io.Reader, error)    { return r, nil }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func compression(socket string) error {
	encoding.RegisterCompressor(upper{})
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		want := bytes.Repeat([]byte("containerd "), 100_000)
		got, err := unary(ctx, conn, wrapperspb.Bytes(want), grpc.UseCompressor(gzip.Name))
		if err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("gzip: %d bytes, %w", len(got), err)
		}
		stream, err := open(ctx, conn, "Both", grpc.UseCompressor(gzip.Name))
		if err != nil {
			return err
		}
		for i := range 10 {
			if err := stream.SendMsg(wrapperspb.Bytes(want[:i*1000])); err != nil {
				return err
			}
			if got, err := receive(stream); err != nil || len(got) != i*1000 {
				return fmt.Errorf("gzip stream: %d bytes, %w", len(got), err)
			}
		}
		_, err = unary(ctx, conn, wrapperspb.Bytes(make([]byte, 2*messageMax)), grpc.UseCompressor(gzip.Name))
		if err := expectCode("bomb", err, codes.ResourceExhausted,
			fmt.Sprintf("grpc: received message after decompression larger than max %d", messageMax)); err != nil {
			return err
		}
		_, err = unary(ctx, conn, wrapperspb.Bytes(want), grpc.UseCompressor("upper"))
		return expectCode("unknown encoding", err, codes.Unimplemented,
			`grpc: Decompressor is not installed for grpc-encoding "upper"`)
	})
}

// authority calls as clients do that dial a plain path, with enough changing headers that the authority falls out of
// the table of headers several times.
func authority(socket string) error {
	for _, name := range []string{
		"/run/containerd/containerd.sock",
		"unix:///run/containerd/containerd.sock",
		"%2Frun%2Fcontainerd%2Fcontainerd.sock",
		"localhost",
		"/tmp/with space and \"quotes\"",
	} {
		err := with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
			for i := range 300 {
				want := fmt.Sprint(i)
				call := metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "ns"+want, "x-"+want, want)
				got, err := unary(call, conn, order{Reply: "$namespace"}.message())
				if err != nil || string(got) != "ns"+want {
					return fmt.Errorf("call %d: %q %w", i, got, err)
				}
			}
			return all(200, func(i int) error {
				stream, err := down(ctx, conn, order{Count: 10, Size: 100_000})
				for err == nil {
					_, err = receive(stream)
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			})
		}, grpc.WithAuthority(name))
		if err != nil {
			return fmt.Errorf("authority %q: %w", name, err)
		}
	}
	return nil
}

func connections(socket string) error {
	return all(200, func(i int) error {
		return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
			want := fmt.Sprint(i)
			got, err := unary(ctx, conn, order{Reply: want}.message())
			if err != nil || string(got) != want {
				return fmt.Errorf("%q %w", got, err)
			}
			return nil
		})
	})
}

func metadataArrives(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		twice := metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "last", "containerd-namespace", "first")
		if got, err := unary(twice, conn, order{Reply: "$namespace"}.message()); string(got) != "last" {
			return fmt.Errorf("namespace sent twice: %q %w", got, err)
		}
		lease := metadata.AppendToOutgoingContext(ctx, "containerd-lease", "l1")
		if got, err := unary(lease, conn, order{Reply: "$lease"}.message()); string(got) != "l1" {
			return fmt.Errorf("lease: %q %w", got, err)
		}
		large := metadata.AppendToOutgoingContext(ctx, "x-large", strings.Repeat("x", 60<<10), "containerd-namespace", "n")
		if got, err := unary(large, conn, order{Reply: "$namespace"}.message()); string(got) != "n" {
			return fmt.Errorf("60 KiB of metadata: %q %w", got, err)
		}
		return nil
	})
}

func statuses(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := unary(ctx, conn, order{Code: "not-found", Message: `image "ü%":` + "\n not found"}.message())
		if err := expectCode("words", err, codes.NotFound, `image "ü%":`+"\n not found"); err != nil {
			return err
		}
		_, err = unary(ctx, conn, order{Code: "details", Message: "with details"}.message())
		if details := status.Convert(err).Details(); len(details) != 1 {
			return fmt.Errorf("details: %v of %w", details, err)
		}
		none := &wrapperspb.BytesValue{}
		err = conn.Invoke(ctx, "/test.rpc.v1.Echo/Nothing", none, none)
		if err := expectCode("method", err, codes.Unimplemented,
			"unknown method Nothing for service test.rpc.v1.Echo"); err != nil {
			return err
		}
		err = conn.Invoke(ctx, "/test.rpc.v1.Nobody/Unary", none, none)
		if err := expectCode("service", err, codes.Unimplemented, "unknown service test.rpc.v1.Nobody"); err != nil {
			return err
		}
		_, err = unary(ctx, conn, wrapperspb.Bytes(make([]byte, messageMax)))
		if err := expectCode("too large", err, codes.ResourceExhausted,
			fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", messageMax+5, messageMax)); err != nil {
			return err
		}
		stream, err := down(ctx, conn, order{Count: 1, Size: messageMax})
		if err == nil {
			_, err = receive(stream)
		}
		if err := expectCode("answer too large", err, codes.ResourceExhausted,
			fmt.Sprintf("grpc: trying to send message larger than max (%d vs. %d)", messageMax+5, messageMax)); err != nil {
			return err
		}
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err = unary(late, conn, order{SleepMs: 60_000}.message())
		if err := expectCode("deadline", err, codes.DeadlineExceeded, ""); err != nil {
			return err
		}
		stream, err = open(ctx, conn, "Both")
		if err != nil {
			return err
		}
		if err := stream.SendMsg(wrapperspb.String("fail")); err != nil {
			return err
		}
		_, err = receive(stream)
		return expectCode("while the client still sends", err, codes.Aborted, "told to")
	})
}

// drain holds a call open while the server closes, sees it answered, and the next one refused.
func drain(socket string) error {
	return with(socket, func(ctx context.Context, conn *grpc.ClientConn) error {
		got, err := unary(ctx, conn, order{Reply: "closing", Code: "close"}.message())
		if err != nil || string(got) != "closing" {
			return fmt.Errorf("call under way: %q %w", got, err)
		}
		_, err = unary(ctx, conn, order{Reply: "x"}.message())
		return expectCode("call after the end", err, codes.Unavailable, "")
	})
}
