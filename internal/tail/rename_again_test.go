package tail

import "testing"

// Files that are rotated away between the opening of the live one and the look for those before it come behind it.
func TestRenameWhileTheNewFileIsOpened(t *testing.T) {
	for _, again := range []int{1, 2, 5} {
		r := newRig(t)
		all := lines("a", 20)
		names := []string{"app.log.2", "app.log.3", "app.log.4", "app.log.5", "app.log.6"}
		rotations := 0
		r.cfg.Allowed = r.cfg.Allowed.Also(func(real string) error {
			if real == r.path && rotations > 0 {
				rotations--
				for range 2 { // twice: so one came and went that wasn't opened
					r.rename("app.log", names[0])
					names = names[1:]
					text := lines(names[0], 20)
					r.write("app.log", text)
					all += text
					if len(names) == 1 {
						rotations = 0
						break
					}
				}
			}
			return nil
		})
		r.open()
		r.write("app.log", all)
		r.drain()
		r.rename("app.log", "app.log.1")
		b := lines("b", 20)
		all += b
		r.write("app.log", b)
		rotations = again
		r.drain()
		r.drain() // the first looks may have given up
		r.want(all)
		r.wantLosses(0)
	}
}
