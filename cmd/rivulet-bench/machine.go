package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

// machine is what a figure is worth nothing without.
type machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	Kernel    string `json:"kernel"`
	FS        string `json:"file_system"`
	Go        string `json:"go"`
	Rivulet   string `json:"rivulet"`
	Mosquitto string `json:"mosquitto"`
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores shared by broker and load generator, Linux %s, %s; %s, %s, %s.", m.CPU, m.Cores, m.Kernel, m.FS, m.Rivulet, m.Mosquitto, m.Go)
}

var (
	modelName        = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)
	mosquittoVersion = regexp.MustCompile(`mosquitto version (\S+)`)
)

func describeMachine(ctx context.Context, rivulet, mosquitto, dir string) (machine, error) {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(), FS: fileSystem(dir)}
	if m.FS == "tmpfs" {
		return m, fmt.Errorf("%s is in memory (tmpfs): choose a folder on a disk with --dir", dir)
	}
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := modelName.FindSubmatch(cpu); found != nil {
			m.CPU = string(found[1])
		}
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = string(bytes.TrimSpace(kernel))
	}
	out, err := exec.CommandContext(ctx, rivulet, "version").Output()
	if err != nil {
		return m, fmt.Errorf("ask rivulet for its version (make build): %w", err)
	}
	m.Rivulet, _, _ = strings.Cut(string(out), "\n")
	// It prints its usage, and ends with 1 or 3 by version.
	out, _ = exec.CommandContext(ctx, mosquitto, "-h").CombinedOutput()
	if found := mosquittoVersion.FindSubmatch(out); found != nil {
		m.Mosquitto = "Mosquitto " + string(found[1])
	}
	return m, nil
}
