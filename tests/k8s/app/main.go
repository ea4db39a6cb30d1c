// An app as Telnyx's customers have one: takes webhooks on 127.0.0.1:3000, writes down what came and
// answers 200. `app pause` does nothing at all; it keeps the network of a Pod.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if len(os.Args) > 1 && os.Args[1] == "pause" {
		<-end
		return
	}
	// What is written before the answer is there however the process ends.
	received, err := os.OpenFile("/received/events", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var one sync.Mutex
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		// Some work, so that a kill finds deliveries under way.
		time.Sleep(5 * time.Millisecond)
		header := request.Header.Get
		one.Lock()
		defer one.Unlock()
		fmt.Fprintf(received, "%s %s %s %x\n", header("hookward-event-id"), header("hookward-attempt"), header("hookward-verified"), sha256.Sum256(body))
	})
	go http.ListenAndServe("127.0.0.1:3000", nil)
	<-end
}
