package table

// The parts of a rendered document. A part is written where the table needs it only, so that a simple table
// gives a short document.

const regoAllow = `
default allow := false

allow if {
	count(denied) == 0
	count(rule) > 0
}
`

const regoOthers = `
# Other agents: what only reads stays usable for everybody.
allow if input.action in open[input.agent]
`

const regoAdministrators = `
allow if {
	input.agent != "logforward"
	matches(administrators, caller)
}
`

const regoDiscovery = `
# Finding nodes isn't an action of theirs.
allow if input.agent == "discovery"
`

const regoOpen = `
open := {
	"rpcutil": {"ping", "agent_inventory", "daemon_stats", "collective_info", "get_fact", "get_facts", "inventory"},
	"choria_util": {"info", "machine_states", "machine_state"},
	"scout": {"checks"},
}
`

const regoGiven = `
# The inputs of the action, and what the node has filled in.
default given := {}

given := input.data if is_object(input.data)
`

const regoLog = `
# The one log that it is about. Without one it is about all logs, which no list holds.
log := given.log if {
	is_string(given.log)
	given.log != ""
	object.get(given, "all", false) == false
}
`

const regoSaid = `
said(name) if not object.get(given, name, "") == ""
`

const regoLifts = `
# A start without a path ends a stop and begins nothing.
lifts if {
	input.action == "start"
	not said("path")
}

lifts if {
	input.action == "start"
	given.lifts == true
}
`

const regoCaller = `
caller := input.callerid if is_string(input.callerid)
`

const regoClaims = `
caller := input.claims.callerid if is_string(input.claims.callerid)
`

const regoMatches = `
# The keys of a table's lists are as operators wrote them, the values are the same as regular expressions;
# "" stands for the key itself.
matches(list, text) if list[text] == ""

matches(list, text) if {
	is_string(text)
	some expression in list
	expression != ""
	regex.match(expression, text)
}
`

const regoPath = `
# A path as it is compared. One that is a glob is within only with all that it can match: so * and ? are
# characters like others here, ** is a tabulator, and [a-z] is ?. Braces may be anything: that is no path.
path := concat("/", shown) if {
	parts := split(plain_path, "/")
	shown := [object.get({"**": "\t"}, part, part) | some part in parts]
}

plain_path := plain if {
	is_string(given.path)
	regex.match("^(/[^/[:cntrl:]]+)+$", given.path)
	not regex.match("/[.]{1,2}(/|$)", given.path)
	plain := regex.replace(given.path, "\\[[!^]?[^\\]\\[!^/*?{}\\\\]+\\]", "?")
	not regex.match("[\\[\\]{}\\\\]", plain)
}
`

const regoPathRole = `
path_within(role) if not role.paths

path_within(role) if matches(role.paths, path)

# A request about a known log needn't carry its path: the node fills it in and decides again.
path_within(role) if {
	role.paths
	not said("path")
	log
}
`

const regoLogRole = `
log_within(role) if not role.logs

log_within(role) if matches(role.logs, log)
`

const regoDestinationRole = `
destination_within(role) if not role.destinations

destination_within(role) if {
	destination_fits(role)
	not leaves(role)
}

destination_fits(role) if {
	said("destination")
	matches(role.destinations, given.destination)
}

# The node fills it in, but for where a redirect goes.
destination_fits(role) if {
	role.destinations
	not said("destination")
	log
	input.action != "redirect"
}

# Where it goes now, as the node says, counts as well.
leaves(role) if {
	said("current")
	not matches(role.destinations, given.current)
}
`

const regoForRole = `
# role["for"] is in nanoseconds. The node decides on what is asked for together with what this caller had of late.
for_within(role) if not role["for"]

for_within(_) if not ends

for_within(role) if {
	asked := nanoseconds(given["for"])
	asked > 0
	asked <= role["for"]
}

ends if said("for")

ends if input.action in {"stop", "pause", "redirect", "apply", "rollback"}

ends if {
	input.action == "start"
	not lifts
}

# "1h30m" is the sum of its parts, each in thousandths of a unit, so that all numbers are whole.
nanoseconds(text) := sum([n |
	some part in regex.find_all_string_submatch_n("` + durationPart + `", text, -1)
	n := thousandths(part[1], part[2]) * duration_unit[part[3]]
]) if {
	is_string(text)
	count(text) <= 40
	regex.match("` + durationText + `", text)
}

duration_unit := {"ms": 1000, "s": 1000000, "m": 60000000, "h": 3600000000, "d": 86400000000, "w": 604800000000}
`

const regoThousandths = `
thousandths(whole, decimals) := to_number(concat("", [whole, substring(concat("", [decimals, "000"]), 0, 3)]))
`

const regoRateRole = `
# role.rate is in bytes per second.
rate_within(role) if not role.rate

rate_within(_) if {
	not said("rate")
	not begins
}

rate_within(role) if {
	asked := rate(given.rate)
	asked > 0
	asked <= role.rate * 1000
}

begins if {
	input.action == "start"
	not lifts
}

rate(text) := n if {
	is_string(text)
	count(text) <= 40
	some part in regex.find_all_string_submatch_n("` + rateText + `", text, 1)
	n := thousandths(part[1], part[2]) * rate_unit[lower(part[3])]
}

rate_unit := {
	"": 1, "b": 1,
	"kb": 1000, "mb": 1000000, "gb": 1000000000, "tb": 1000000000000,
	"k": 1024, "m": 1048576, "g": 1073741824, "t": 1099511627776,
	"kib": 1024, "mib": 1048576, "gib": 1073741824, "tib": 1099511627776,
}
`

const regoReasonRole = `
reason_within(role) if not role.reason

reason_within(_) if not input.action in changes

reason_within(_) if {
	is_string(given.reason)
	regex.match("[\\pL\\pN]", given.reason)
}

changes := {"start", "stop", "pause", "resume", "redirect", "apply", "rollback"}
`

const regoTTLRole = `
# In seconds.
ttl_within(role) if not role.ttl

ttl_within(role) if {
	is_number(input.ttl)
	input.ttl >= 0
	input.ttl <= role.ttl
}
`

const regoCollectiveRole = `
collective_within(role) if not role.collectives

collective_within(role) if matches(role.collectives, input.collective)
`

const regoFact = `
# A fact as text; os.family is family within os.
fact(name) := text if {
	is_object(input.facts)
	text := shown(object.get(input.facts, split(name, "."), null))
}

shown(value) := value if is_string(value)

shown(value) := "true" if value == true

shown(value) := "false" if value == false

shown(value) := format_int(value, 10) if {
	is_number(value)
	abs(value) <= 9007199254740991
	value == floor(value)
}
`

const regoFactRole = `
facts_within(role) if not role.facts

facts_within(role) if {
	every name, values in role.facts {
		matches(values, fact(name))
	}
}
`

const regoClassRole = `
classes_within(role) if not role.classes

classes_within(role) if {
	is_array(input.classes)
	some class in input.classes
	matches(role.classes, class)
}
`

const regoProvisioningRole = `
provisioning_within(role) if not role.provisioning

provisioning_within(role) if role.provisioning == provisioning
`

const regoProvisioning = `
provisioning := "never" if input.provision_mode == false

provisioning := "only" if input.provision_mode == true
`

const regoTimeRole = `
times_within(role) if not role.times

times_within(role) if {
	some window in role.times
	now_within(window)
}
`

const regoTime = `
# Hours are minutes since midnight, by the clocks on the walls of the zone. What ends after midnight belongs to the
# day on which it begins.
now_within(window) if {
	window.from < window.to
	[day, minute] := wall(window.zone)
	minute >= window.from
	minute < window.to
	day in window.days
}

now_within(window) if {
	window.from > window.to
	[day, minute] := wall(window.zone)
	minute >= window.from
	day in window.days
}

now_within(window) if {
	window.from > window.to
	[day, minute] := wall(window.zone)
	minute < window.to
	yesterday[day] in window.days
}

wall(zone) := [time.weekday([now, zone]), (hour * 60) + minute] if [hour, minute, _] := time.clock([now, zone])

now := time.parse_rfc3339_ns(input.time) if {
	is_string(input.time)
	regex.match("` + timeText + `", input.time)
}

yesterday := {
	"Monday": "Sunday", "Tuesday": "Monday", "Wednesday": "Tuesday", "Thursday": "Wednesday",
	"Friday": "Thursday", "Saturday": "Friday", "Sunday": "Saturday",
}
`
