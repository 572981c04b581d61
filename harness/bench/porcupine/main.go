// Is a history of a FIFO queue linearizable, as Porcupine sees it, and what CPU time does it take to say so?
//
//	lin -timeout 20s -repeat 5 < history
//
// A line is one operation: kind (0 enqueue, 1 dequeue), invoked and completed in ns, value. The answer is one line of
// JSON. Reading the history is not in the times; what the garbage collector costs while it decides is.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

type input struct {
	dequeue bool
	value   int64
}

// The state is the queue as a slice that is never written to once it is a state.
var queue = porcupine.Model{
	Init: func() interface{} { return []int64(nil) },
	Step: func(state, in, out interface{}) (bool, interface{}) {
		values, operation := state.([]int64), in.(input)
		if operation.dequeue {
			if len(values) == 0 || values[0] != out.(int64) {
				return false, state
			}
			return true, values[1:]
		}
		next := make([]int64, len(values)+1)
		copy(next, values)
		next[len(values)] = operation.value
		return true, next
	},
	Equal: func(one, other interface{}) bool {
		a, b := one.([]int64), other.([]int64)
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i] != b[i] {
				return false
			}
		}
		return true
	},
	Hash: func(state interface{}) uint64 {
		hash := uint64(14695981039346656037)
		for _, value := range state.([]int64) {
			hash = (hash ^ uint64(value)) * 1099511628211
		}
		return hash
	},
}

// cpu is the CPU time of this process, in seconds.
func cpu() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func main() {
	timeout := flag.Duration("timeout", 20*time.Second, "give up after this long")
	repeat := flag.Int("repeat", 1, "how often to decide")
	flag.Parse()
	var history []porcupine.Operation
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var kind, invoked, completed, value int64
		if _, err := fmt.Sscan(lines.Text(), &kind, &invoked, &completed, &value); err != nil {
			fmt.Fprintln(os.Stderr, "line", len(history)+1, err)
			os.Exit(1)
		}
		history = append(history, porcupine.Operation{
			Input: input{kind == 1, value}, Call: invoked, Output: value, Return: completed,
		})
	}
	answer := struct {
		Verdict string    `json:"verdict"`
		CPU     []float64 `json:"cpu_s"`
	}{}
	for i := 0; i < *repeat; i++ {
		runtime.GC()
		begin := cpu()
		answer.Verdict = string(porcupine.CheckOperationsTimeout(queue, history, *timeout))
		answer.CPU = append(answer.CPU, cpu()-begin)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		os.Exit(1)
	}
}
