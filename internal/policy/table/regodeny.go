package table

// What deny rules need of a rendered document; see rego.go.

const regoDenied = `
# The deny rules that stand: those of which no condition is known not to hold.
denied contains name if {
	some name, denial in denials
	not otherwise(denial)
}

otherwise(denial) if {
	is_string(input.action)
	not input.action in denial.actions
}
`

const regoCallerDeny = `
otherwise(denial) if {
	denial.callers
	caller
	not matches(denial.callers, caller)
}
`

const regoExceptDeny = `
otherwise(denial) if matches(denial.except, caller)
`

const regoLogDeny = `
otherwise(denial) if {
	denial.logs
	log
	not matches(denial.logs, log)
}
`

const regoPathDeny = `
otherwise(denial) if {
	denial.paths
	elsewhere(denial.paths)
}

# The node fills the path in, and decides again.
elsewhere(_) if {
	not said("path")
	log
}

elsewhere(paths) if {
	path
	not regex.match("[*?\t]", path)
	not matches(paths, path)
}

# Two globs are apart where they begin otherwise, or differ in depth.
elsewhere(paths) if {
	regex.match("[*?\t]", path)
	every denied_path, _ in paths {
		apart(denied_path)
	}
}

apart(denied_path) if {
	a := beginning(denied_path)
	b := beginning(path)
	not startswith(a, b)
	not startswith(b, a)
}

apart(denied_path) if {
	not contains(denied_path, "**")
	least(path) > depth(denied_path)
}

apart(denied_path) if {
	not contains(path, "\t")
	least(denied_path) > depth(path)
}

beginning(text) := regex.find_n("^[^*?\t]*", text, 1)[0]

depth(text) := count(split(text, "/")) - 1

least(text) := depth(text) - count([part | some part in split(trim_suffix(text, "/**"), "/"); part in {"**", "\t"}])
`

const regoDestinationDeny = `
otherwise(denial) if {
	denial.destinations
	is_string(given.destination)
	given.destination != ""
	not matches(denial.destinations, given.destination)
}

# The node fills it in, but for where a redirect goes.
otherwise(denial) if {
	denial.destinations
	not said("destination")
	log
	is_string(input.action)
	input.action != "redirect"
}
`

const regoCollectiveDeny = `
otherwise(denial) if {
	denial.collectives
	is_string(input.collective)
	not matches(denial.collectives, input.collective)
}
`

const regoFactDeny = `
otherwise(denial) if {
	some name, values in denial.facts
	value := fact(name)
	not matches(values, value)
}
`

const regoClassDeny = `
otherwise(denial) if {
	denial.classes
	is_array(input.classes)
	every class in input.classes {
		not matches(denial.classes, class)
	}
}
`

const regoProvisioningDeny = `
otherwise(denial) if {
	denial.provisioning
	provisioning
	denial.provisioning != provisioning
}
`

const regoTimeDeny = `
otherwise(denial) if {
	denial.times
	now
	every window in denial.times {
		wall(window.zone)
		not now_within(window)
	}
}
`
