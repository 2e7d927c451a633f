// Calls a test.rpc.v1.Echo service as crictl and kubelets did before 1.29: an old grpc-go dials a plain path, which
// it then sends as :authority. Prints nothing, or what went wrong.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/golang/protobuf/ptypes/wrappers"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	conn, err := grpc.DialContext(ctx, socket, grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range 500 {
		want := fmt.Sprintf("ns%d", i)
		call, end := context.WithTimeout(ctx, 20*time.Second)
		call = metadata.AppendToOutgoingContext(call, "containerd-namespace", want)
		out := &wrappers.BytesValue{}
		in := &wrappers.BytesValue{Value: []byte(`{"reply":"$namespace"}`)}
		err := conn.Invoke(call, "/test.rpc.v1.Echo/Unary", in, out)
		end()
		if err != nil || string(out.Value) != want {
			return fmt.Errorf("call %d: %q %w", i, out.Value, err)
		}
	}
	return nil
}
