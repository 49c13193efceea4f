// Package clients runs nats.go, unmodified, against the NATS doors of three
// nodes. Started by tests/python/test_nats_clients.py, which says in the
// environment where they are.
package clients

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A test that waits longer has found a bug.
const patience = 20 * time.Second

func on(t *testing.T, node int, more ...nats.Option) *nats.Conn {
	t.Helper()
	port := strings.Split(os.Getenv("NATS_PORTS"), ",")[node]
	client, err := nats.Connect("127.0.0.1:"+port, append(more, nats.Timeout(patience))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Interest takes a moment to reach the other nodes.
func untilAnswered(t *testing.T, client *nats.Conn, subject string, data string) *nats.Msg {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		reply, err := client.Request(subject, []byte(data), patience)
		if err == nil {
			return reply
		}
		if !errors.Is(err, nats.ErrNoResponders) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestAMessageCrossesInOrder(t *testing.T) {
	one, two := on(t, 0), on(t, 1)
	subscription, err := two.SubscribeSync("go.cross.>")
	must(t, err)
	_, err = two.Subscribe("go.ready", func(message *nats.Msg) { _ = message.Respond(nil) })
	must(t, err)
	must(t, two.Flush())
	untilAnswered(t, one, "go.ready", "")
	for number := 0; number < 100; number++ {
		must(t, one.Publish("go.cross."+strconv.Itoa(number), []byte(strconv.Itoa(number))))
	}
	must(t, one.Flush())
	for number := 0; number < 100; number++ {
		message, err := subscription.NextMsg(patience)
		must(t, err)
		if string(message.Data) != strconv.Itoa(number) {
			t.Fatalf("%s came in place of %d", message.Data, number)
		}
	}
}

func TestAQueueGroupGetsEachMessageOnce(t *testing.T) {
	clients := []*nats.Conn{on(t, 0), on(t, 1), on(t, 2)}
	got := make(chan string, 1000)
	for _, client := range clients {
		_, err := client.QueueSubscribe("go.queue", "workers", func(message *nats.Msg) { got <- string(message.Data) })
		must(t, err)
		must(t, client.Flush())
	}
	for number := 0; number < 300; number++ {
		must(t, clients[number%3].Publish("go.queue", []byte(strconv.Itoa(number))))
	}
	seen := map[string]bool{}
	for len(seen) < 300 {
		select {
		case text := <-got:
			if seen[text] {
				t.Fatalf("%s came twice", text)
			}
			seen[text] = true
		case <-time.After(patience):
			t.Fatalf("only %d of 300 came", len(seen))
		}
	}
}

func TestRequestsAndNobodyThere(t *testing.T) {
	one, two := on(t, 0), on(t, 2)
	_, err := two.Subscribe("go.ask", func(message *nats.Msg) { _ = message.Respond(append([]byte("to "), message.Data...)) })
	must(t, err)
	must(t, two.Flush())
	if reply := untilAnswered(t, one, "go.ask", "you"); string(reply.Data) != "to you" {
		t.Fatalf("answered %q", reply.Data)
	}
	if _, err := one.Request("go.nobody", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("nobody is there: %v", err)
	}
}

func TestHeaders(t *testing.T) {
	client := on(t, 0)
	subscription, err := client.SubscribeSync("go.headers")
	must(t, err)
	sent := nats.NewMsg("go.headers")
	sent.Header.Set("Colour", "blue")
	must(t, client.PublishMsg(sent))
	message, err := subscription.NextMsg(patience)
	must(t, err)
	if message.Header.Get("Colour") != "blue" {
		t.Fatalf("headers are %v", message.Header)
	}
}

func TestDrain(t *testing.T) {
	one, two := on(t, 0), on(t, 0)
	var got atomic.Int64
	closed := make(chan struct{})
	one.SetClosedHandler(func(*nats.Conn) { close(closed) })
	_, err := one.Subscribe("go.drain", func(*nats.Msg) { got.Add(1) })
	must(t, err)
	must(t, one.Flush())
	for number := 0; number < 100; number++ {
		must(t, two.Publish("go.drain", nil))
	}
	must(t, two.Flush())
	must(t, one.Drain())
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the drain does not end")
	}
	if got.Load() != 100 {
		t.Fatalf("%d of 100 came", got.Load())
	}
}

func TestAClientGoesOnWhenItsNodeIsKilled(t *testing.T) {
	back := make(chan struct{}, 10)
	var urls []string
	for _, port := range strings.Split(os.Getenv("NATS_VICTIMS"), ",") {
		urls = append(urls, "nats://127.0.0.1:"+port)
	}
	client, err := nats.Connect(strings.Join(urls, ","), nats.DontRandomize(), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.Timeout(patience),
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	must(t, err)
	defer client.Close()
	subscription, err := client.SubscribeSync("go.after")
	must(t, err)
	must(t, client.Flush())
	pid, err := strconv.Atoi(os.Getenv("NATS_VICTIM_PID"))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	select {
	case <-back:
	case <-time.After(patience):
		t.Fatal("it does not connect again")
	}
	must(t, client.Publish("go.after", []byte("on")))
	_, err = subscription.NextMsg(patience)
	must(t, err)
}

func TestOnlyTheRightPasswordGetsInOverTLS(t *testing.T) {
	url := "tls://localhost:" + os.Getenv("NATS_TLS_PORT")
	authority := nats.RootCAs(os.Getenv("NATS_TLS_CA"))
	if _, err := nats.Connect(url, authority, nats.UserInfo("ann", "wrong")); !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("a wrong password: %v", err)
	}
	client, err := nats.Connect(url, authority, nats.UserInfo("ann", "pw"), nats.Timeout(patience))
	must(t, err)
	defer client.Close()
	subscription, err := client.SubscribeSync("go.tls")
	must(t, err)
	must(t, client.Publish("go.tls", nil))
	_, err = subscription.NextMsg(patience)
	must(t, err)
}
