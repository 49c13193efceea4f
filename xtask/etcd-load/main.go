// etcd-load is a closed-loop load generator for etcd, on etcd's own client:
// so many clients, each with one request in flight, for so many seconds. It
// prints one line of JSON: rate, median and 99th percentile.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type report struct {
	Rate   float64 `json:"rate"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Errors int     `json:"errors"`
}

func main() {
	endpoints := flag.String("endpoints", "", "comma-separated addresses; connections are spread over them")
	connections := flag.Int("connections", 1, "gRPC connections")
	clients := flag.Int("clients", 1, "requests in flight")
	operation := flag.String("operation", "put", "put or get (linearizable)")
	seconds := flag.Float64("seconds", 5, "measured time, after one second of warm-up")
	size := flag.Int("value", 256, "bytes of a value")
	keys := flag.Int("keys", 1000000, "number of distinct keys")
	flag.Parse()

	targets := strings.Split(*endpoints, ",")
	pool := make([]*clientv3.Client, *connections)
	for n := range pool {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{targets[n%len(targets)]},
			DialTimeout: 10 * time.Second,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		pool[n] = client
	}
	begin := time.Now().Add(time.Second)
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	samples := make([][]time.Duration, *clients)
	errors := make([]int, *clients)
	var all sync.WaitGroup
	for n := range samples {
		all.Add(1)
		go func() {
			defer all.Done()
			source := rand.New(rand.NewSource(int64(n)))
			value := strings.Repeat("x", *size)
			client := pool[n%len(pool)]
			for {
				start := time.Now()
				if start.After(end) {
					return
				}
				key := fmt.Sprintf("key:%012d", source.Intn(*keys))
				var err error
				if *operation == "put" {
					_, err = client.Put(context.Background(), key, value)
				} else {
					_, err = client.Get(context.Background(), key)
				}
				if err != nil {
					errors[n]++
				} else if done := time.Now(); start.After(begin) && done.Before(end) {
					samples[n] = append(samples[n], done.Sub(start))
				}
			}
		}()
	}
	all.Wait()
	merged := slices.Concat(samples...)
	slices.Sort(merged)
	result := report{Rate: float64(len(merged)) / *seconds}
	for _, count := range errors {
		result.Errors += count
	}
	if len(merged) > 0 {
		result.P50 = milliseconds(merged[len(merged)/2])
		result.P99 = milliseconds(merged[len(merged)*99/100])
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
