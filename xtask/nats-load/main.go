// nats-load measures a server of the NATS protocol with NATS's own client for
// Go. It prints one line of JSON. Modes:
//
//	publish   publishers send to one subject, each subscriber gets every
//	          message; the rate is what all subscribers together received
//	request   one request in flight at a time, answered by an echo
//	tcp       the same over a plain TCP connection between two goroutines,
//	          for what the machine itself takes
//
// At most window bytes are under way between publishers and the slowest
// subscriber, so that what is measured can be kept up: nothing piles up in
// the server, and nobody is cut off for being slow.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

type report struct {
	// Messages per second, received by all subscribers together.
	Rate float64 `json:"rate"`
	// Median and 99th percentile of requests, in microseconds.
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
	// Messages that did not arrive, requests without an answer.
	Lost int64 `json:"lost"`
}

var (
	publishAt   = flag.String("publish", "nats://127.0.0.1:4222", "comma-separated servers of publishers and requesters")
	subscribeAt = flag.String("subscribe", "nats://127.0.0.1:4222", "comma-separated servers of subscribers and repliers")
	publishers  = flag.Int("publishers", 1, "publishing connections")
	subscribers = flag.Int("subscribers", 1, "subscribing connections")
	size        = flag.Int("size", 16, "bytes of a message")
	seconds     = flag.Float64("seconds", 5, "measured time, after one second of warm-up")
	window      = flag.Int64("window", 4<<20, "most bytes under way, and 32 Ki messages")
)

const (
	subject     = "load.messages"
	quietLimit  = 10 * time.Second
	meetLimit   = 20 * time.Second
	warmUp      = time.Second
	mostUnder   = 32 << 10
	lookEvery   = 32
	requestWait = 5 * time.Second
)

func main() {
	mode := flag.String("mode", "publish", "publish, request or tcp")
	flag.Parse()
	modes := map[string]func() (report, error){"publish": publish, "request": request, "tcp": tcp}
	run, known := modes[*mode]
	if !known {
		fail(fmt.Errorf("no mode %q", *mode))
	}
	result, err := run()
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// connect opens one connection per index, spread over the servers, that does
// not move to another server by itself.
func connect(servers string, count int) ([]*nats.Conn, error) {
	list := strings.Split(servers, ",")
	open := make([]*nats.Conn, count)
	for n := range open {
		connection, err := nats.Connect(list[n%len(list)], nats.NoReconnect(), nats.DontRandomize())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list[n%len(list)], err)
		}
		open[n] = connection
	}
	return open, nil
}

// received counts the messages of one subscriber; padded, so that counters do
// not share a cache line.
type received struct {
	atomic.Int64
	_ [56]byte
}

func publish() (report, error) {
	from, err := connect(*publishAt, *publishers)
	if err != nil {
		return report{}, err
	}
	to, err := connect(*subscribeAt, *subscribers)
	if err != nil {
		return report{}, err
	}
	counts := make([]received, len(to))
	for n, connection := range to {
		subscription, err := connection.Subscribe(subject, func(*nats.Msg) { counts[n].Add(1) })
		if err != nil {
			return report{}, err
		}
		if err := errors.Join(subscription.SetPendingLimits(-1, -1), connection.Flush()); err != nil {
			return report{}, err
		}
	}
	if err := meet(from, counts); err != nil {
		return report{}, err
	}
	var sent atomic.Int64
	for n := range counts {
		counts[n].Store(0)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, connection := range from {
		all.Add(1)
		go func() {
			defer all.Done()
			send(connection, counts, &sent, stop)
		}()
	}
	time.Sleep(warmUp)
	begin, first := time.Now(), total(counts)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	last, took := total(counts), time.Since(begin)
	close(stop)
	all.Wait()
	wanted := sent.Load() * int64(len(to))
	settle(func() bool { return total(counts) >= wanted })
	return report{Rate: float64(last-first) / took.Seconds(), Lost: wanted - total(counts)}, nil
}

// meet waits until a message of each publisher reaches every subscriber: one
// server tells another of an interest in its own time. All of them have
// arrived when it returns.
func meet(from []*nats.Conn, counts []received) error {
	for _, connection := range from {
		deadline := time.Now().Add(meetLimit)
		for {
			before := snapshot(counts)
			if err := errors.Join(connection.Publish(subject, nil), connection.Flush()); err != nil {
				return err
			}
			arrived := func() bool {
				return !slices.ContainsFunc(indexes(counts), func(n int) bool { return counts[n].Load() == before[n] })
			}
			if within(200*time.Millisecond, arrived) {
				break
			}
			if time.Now().After(deadline) {
				return errors.New("the subscribers do not hear the publishers")
			}
		}
	}
	// Nothing of the meeting may arrive later and be counted.
	for quiet, last := 0, int64(-1); quiet < 5; {
		if now := total(counts); now == last {
			quiet++
		} else {
			quiet, last = 0, now
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func send(connection *nats.Conn, counts []received, sent *atomic.Int64, stop chan struct{}) {
	payload := bytes.Repeat([]byte("x"), *size)
	most := min(max(*window/int64(max(*size, 1)), 2*lookEvery), mostUnder)
	for count := 0; ; count++ {
		if count%lookEvery == 0 {
			for sent.Load()-slowest(counts) > most {
				select {
				case <-stop:
					_ = connection.Flush()
					return
				default:
					runtime.Gosched()
				}
				time.Sleep(20 * time.Microsecond)
			}
			select {
			case <-stop:
				_ = connection.Flush()
				return
			default:
			}
		}
		if connection.Publish(subject, payload) != nil {
			return
		}
		sent.Add(1)
	}
}

func request() (report, error) {
	from, err := connect(*publishAt, 1)
	if err != nil {
		return report{}, err
	}
	to, err := connect(*subscribeAt, 1)
	if err != nil {
		return report{}, err
	}
	if _, err := to[0].Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		return report{}, err
	}
	if err := to[0].Flush(); err != nil {
		return report{}, err
	}
	payload := bytes.Repeat([]byte("x"), *size)
	ask := func() error {
		_, err := from[0].Request(subject, payload, requestWait)
		return err
	}
	if !within(meetLimit, func() bool { return ask() == nil }) {
		return report{}, errors.New("the requester does not reach the replier")
	}
	return closedLoop(ask), nil
}

func tcp() (report, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return report{}, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{connection}, struct{ io.Reader }{connection}, make([]byte, 64<<10))
			}()
		}
	}()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return report{}, err
	}
	payload, answer := make([]byte, *size), make([]byte, *size)
	return closedLoop(func() error {
		if _, err := connection.Write(payload); err != nil {
			return err
		}
		_, err := io.ReadFull(connection, answer)
		return err
	}), nil
}

// closedLoop asks again and again, one request in flight.
func closedLoop(ask func() error) report {
	begin := time.Now().Add(warmUp)
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	var samples []time.Duration
	var lost int64
	for {
		start := time.Now()
		if start.After(end) {
			break
		}
		if ask() != nil {
			lost++
		} else if start.After(begin) {
			samples = append(samples, time.Since(start))
		}
	}
	slices.Sort(samples)
	result := report{Rate: float64(len(samples)) / *seconds, Lost: lost}
	if len(samples) > 0 {
		result.P50 = microseconds(samples[len(samples)/2])
		result.P99 = microseconds(samples[len(samples)*99/100])
	}
	return result
}

func microseconds(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / 1000
}

func indexes(counts []received) []int {
	list := make([]int, len(counts))
	for n := range list {
		list[n] = n
	}
	return list
}

func snapshot(counts []received) []int64 {
	list := make([]int64, len(counts))
	for n := range counts {
		list[n] = counts[n].Load()
	}
	return list
}

func total(counts []received) int64 {
	var sum int64
	for n := range counts {
		sum += counts[n].Load()
	}
	return sum
}

func slowest(counts []received) int64 {
	least := counts[0].Load()
	for n := range counts {
		least = min(least, counts[n].Load())
	}
	return least
}

// settle waits until it holds, or nothing more can be expected.
func settle(holds func() bool) {
	within(quietLimit, holds)
}

func within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}
