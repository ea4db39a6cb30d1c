// Beside the page's function: a line of four fields in base64 (key, timestamp, signature, body), a verdict for each.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		var fields [4][]byte
		for i, field := range strings.Split(strings.TrimSpace(line), ",") {
			fields[i], _ = base64.StdEncoding.DecodeString(field)
		}
		header := http.Header{}
		header.Set("telnyx-timestamp", string(fields[1]))
		header.Set("telnyx-signature-ed25519", string(fields[2]))
		if verdict, err := Verify(string(fields[0]), header, fields[3]); err != nil {
			fmt.Println("error")
		} else {
			fmt.Println(verdict)
		}
	}
}
