// Package disktest runs programs as the services run: systemd's RestrictSUIDSGID= rejects
// openat2(2), so package disk walks each path one folder at a time.
package disktest

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Exec replaces this process, as execve(2) does, by a program for which openat2(2) fails with
// ENOSYS. It returns only on an error.
func Exec(path string, args, env []string) error {
	runtime.LockOSThread() // the filter is one thread's until the exec
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_OPENAT2},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0))
	if err == nil {
		if _, open := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{}); !errors.Is(open, unix.ENOSYS) {
			err = fmt.Errorf("openat2 is not rejected: %w", open)
		}
	}
	if err == nil {
		err = syscall.Exec(path, args, env)
	}
	return fmt.Errorf("run %s without openat2: %w", path, err)
}
