# Makes what choria machine graph prints fit to be looked at: what is seen is grey and needs no label, for it is
# found_ and the state that it leads to; what an operator asks for is blue; parallel edges are one.
function style(label) {
	if (label ~ /^found_/) return "color=gray70"
	if (label == "lost_sight") return "color=gray70, style=dashed"
	if (label ~ /^(pause|resume|restart|retry|definitions_changed)$/) return "color=royalblue, fontcolor=royalblue"
	return "color=gray30, fontcolor=gray30"
}
/^digraph/ {
	print
	print "    rankdir = LR; ranksep = 1.1; nodesep = 0.35; bgcolor = white;"
	print "    node [ shape = box, style = \"rounded,filled\", fillcolor = white, fontname = \"DejaVu Sans\", fontsize = 12 ];"
	print "    edge [ fontname = \"DejaVu Sans\", fontsize = 9, arrowsize = 0.6 ];"
	next
}
/->/ {
	split($0, part, "\"")
	from = part[2]; to = part[4]; label = part[6]
	shown = (label ~ /^found_/ || label == "lost_sight") ? "" : label
	key = from SUBSEP to
	if (!(key in labels)) { order[++n] = key; labels[key] = shown; styles[key] = style(label) }
	else if (shown != "") labels[key] = labels[key] "\\n" shown
	next
}
/^}/ {
	for (i = 1; i <= n; i++) {
		split(order[i], ends, SUBSEP)
		printf "    \"%s\" -> \"%s\" [ label = \"%s\", %s ];\n", ends[1], ends[2], labels[order[i]], styles[order[i]]
	}
	print "    \"forwarding\" [ fillcolor = palegreen ]; \"idle\" [ fillcolor = gray95 ]; \"paused\" [ fillcolor = lightyellow ];"
	print "    \"degraded\" [ fillcolor = moccasin ]; \"failed\" [ fillcolor = mistyrose ]; \"unknown\" [ peripheries = 2 ];"
	print "    { rank = same; \"idle\"; \"forwarding\"; \"paused\"; \"degraded\"; \"failed\"; }"
	print "    { rank = same; \"pausing\"; \"resuming\"; \"restarting\"; \"retrying\"; }"
	print; next
}
{ next }
