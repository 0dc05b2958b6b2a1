// SPDX-License-Identifier: Apache-2.0

// Exec, attach and port-forward as kubectl does them, at the address of a kubelet.
//
//	client [-ws] [-stdin] [-tty] [-size COLSxROWS] exec|attach URL
//	client [-ws] forward URL PORT
//
// Its exit status is the command's; 250 where there is none. forward prints the port of 127.0.0.1
// that it listens on, and ends with its standard input.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

const failed = 250

var (
	ws    = flag.Bool("ws", false, "WebSocket, not SPDY")
	stdin = flag.Bool("stdin", false, "standard input goes to the command")
	tty   = flag.Bool("tty", false, "a terminal")
	size  = flag.String("size", "", "of the terminal")
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "client:", err)
	os.Exit(failed)
}

// sizes is a terminal whose size is told once.
type sizes chan *remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize { return <-s }

func executor(config *rest.Config, u *url.URL) (remotecommand.Executor, error) {
	if *ws {
		return remotecommand.NewWebSocketExecutor(config, "GET", u.String())
	}
	return remotecommand.NewSPDYExecutor(config, "POST", u)
}

func stream(config *rest.Config, u *url.URL) {
	e, err := executor(config, u)
	if err != nil {
		fail(err)
	}
	o := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: *tty}
	if *stdin {
		o.Stdin = os.Stdin
	}
	if !*tty {
		o.Stderr = os.Stderr
	}
	if *size != "" {
		queue, one := make(sizes, 1), remotecommand.TerminalSize{}
		if _, err := fmt.Sscanf(*size, "%dx%d", &one.Width, &one.Height); err != nil {
			fail(err)
		}
		queue <- &one
		o.TerminalSizeQueue = queue
	}
	err = e.StreamWithContext(context.Background(), o)
	var status exec.CodeExitError
	if errors.As(err, &status) {
		os.Exit(status.Code)
	}
	if err != nil {
		fail(err)
	}
}

func dialer(config *rest.Config, u *url.URL) (httpstream.Dialer, error) {
	if *ws {
		return portforward.NewSPDYOverWebsocketDialer(u, config)
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u), nil
}

func forward(config *rest.Config, u *url.URL, port string) {
	d, err := dialer(config, u)
	if err != nil {
		fail(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewOnAddresses(d, []string{"127.0.0.1"}, []string{"0:" + port}, stop, ready,
		io.Discard, os.Stderr)
	if err != nil {
		fail(err)
	}
	go func() {
		<-ready
		ports, err := f.GetPorts()
		if err != nil {
			fail(err)
		}
		fmt.Println(ports[0].Local)
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	if err := f.ForwardPorts(); err != nil {
		fail(err)
	}
}

func main() {
	flag.Parse()
	u, err := url.Parse(flag.Arg(1))
	if err != nil {
		fail(err)
	}
	config := &rest.Config{Host: u.Scheme + "://" + u.Host,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	switch flag.Arg(0) {
	case "exec", "attach":
		stream(config, u)
	case "forward":
		forward(config, u, flag.Arg(2))
	default:
		flag.Usage()
		os.Exit(failed)
	}
}
