# Settings as logforward reads them: `key = value`, a line each, in the order of their names.
#
# @param values Settings, by name; lists and secrets among them
# @return [String] The file's content
function mcollective_agent_logforward::settings(Hash[String, Any] $values) >> String {
  $lines = $values.keys.sort.map |$key| {
    $value = $values[$key] ? {
      Sensitive => $values[$key].unwrap,
      default   => $values[$key],
    }
    $text = $value ? {
      Array   => $value.join(', '),
      true    => 'yes',
      false   => 'no',
      default => String($value),
    }
    if $text =~ /[\r\n\0]/ {
      fail("logforward: the value of ${key} has more than one line")
    }
    "${key} = ${text}"
  }
  (['# Managed by Puppet.'] + $lines + ['']).join("\n")
}
