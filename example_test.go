package nyx_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/nyxnet/nyx"
)

// An HTTP client whose requests leave by an exit of the network.
func Example_httpTransport() {
	client, err := nyx.Open(nyx.Config{NetworkFile: "network.toml"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	web := &http.Client{Transport: &http.Transport{DialContext: client.Dial}, Timeout: time.Minute}
	resp, err := web.Get("http://example.com/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	n, _ := io.Copy(io.Discard, resp.Body)
	fmt.Println(resp.Status, n)
}

// A web server that is reached only inside the network, by its address.
func Example_service() {
	client, err := nyx.Open(nyx.Config{NetworkFile: "network.toml"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	key, err := nyx.NewServiceKey()
	if err != nil {
		log.Fatal(err)
	}
	ln, err := client.Listen(context.Background(), key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + key.Host())
	log.Fatal(http.Serve(ln, http.FileServer(http.Dir("public"))))
}
