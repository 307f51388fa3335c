# Settings as logforward reads them: `key = value`, a line each, in the order of their names.
#
# @param values Settings, by name; lists and secrets among them
# @return [String] The file's content
function mcollective_agent_logforward::settings(Hash[String, Any] $values) >> String {
  $lines = $values.keys.sort.map |$key| {
    if $key !~ /\A[A-Za-z0-9_.-]+\z/ {
      fail("logforward: ${String($key, '%p')} can't name a setting")
    }
    $parts = $values[$key] ? {
      Array   => $values[$key],
      default => [$values[$key]],
    }
    $text = $parts.map |$part| {
      $plain = $part ? {
        Sensitive => $part.unwrap,
        default   => $part,
      }
      $plain ? {
        Variant[Array, Hash] => fail("logforward: the value of ${key} is neither one nor a list of some"),
        true                 => 'yes',
        false                => 'no',
        default              => String($plain),
      }
    }.join(', ')
    if $text =~ /[\r\n\0]/ {
      fail("logforward: the value of ${key} has more than one line")
    }
    # The program would read another password than was given.
    if $key =~ /(\A|\.)(password|token)\z/ and $text =~ /\A[[:space:]]|[[:space:]]\z/ {
      fail("logforward: the value of ${key} begins or ends with a blank, which a line of settings can't tell")
    }
    "${key} = ${text}"
  }
  (['# Managed by Puppet.'] + $lines + ['']).join("\n")
}
