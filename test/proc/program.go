package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programVariable names the program that tests run, so that several packages need not build it, and two builds can be compared.
const programVariable = "LOGFORWARD_TEST_BINARY"

// Program is the path of the program under test: of the one that LOGFORWARD_TEST_BINARY names, which isn't the caller's to change, or of a new one in dir.
func Program(dir string) (string, error) {
	if path := os.Getenv(programVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", programVariable, err)
		}
		return path, nil
	}
	path := filepath.Join(dir, "logforward")
	if out, err := exec.Command("go", "build", "-o", path, "logforward/cmd/logforward").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
}
