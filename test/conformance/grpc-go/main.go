// Calls a test.rpc.v1.Echo service the way containerd's Go clients do, one scenario a run.
//
// A run prints nothing and exits 0, or prints what went wrong and exits 1. The message of the service is
// {bytes data = 1; ...}, which BytesValue reads and writes; what data holds is said at each method in the server.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
)

var scenarios = map[string]func(target string) error{
	"authority":       authority,
	"blob":            blob,
	"cancels":         cancels,
	"connections":     connections,
	"drain":           drain,
	"errors":          statuses,
	"gzip":            compression,
	"metadata":        metadataArrives,
	"stalled":         stalled,
	"streams":         streams,
	"ttrpc":           ttrpcCalls,
	"ttrpc-serve":     ttrpcServe,
	"ttrpc-streamful": ttrpcStreamFull,
}

func main() {
	if len(os.Args) > 3 && os.Args[1] == "listen" {
		if err := listen(os.Args[2], os.Args[3:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: grpc-go SCENARIO SOCKET, or grpc-go listen SOCKET COMMAND...")
		os.Exit(2)
	}
	scenario, ok := scenarios[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "no scenario %q\n", os.Args[1])
		os.Exit(2)
	}
	if err := scenario(os.Args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// listen runs a command whose file descriptor 3 listens on the socket. It accepts nothing itself.
func listen(socket string, command []string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	file, err := listener.(*net.UnixListener).File()
	if err != nil {
		return err
	}
	child := exec.Command(command[0], command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{file}
	return child.Run()
}
