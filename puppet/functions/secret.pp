# Tells whether settings hold what isn't everybody's to read.
#
# @param values Settings, by name
# @return [Boolean] Whether one of them is a password or a token, or was given as Sensitive
function mcollective_agent_logforward::secret(Hash[String, Any] $values) >> Boolean {
  $values.any |$key, $value| {
    $parts = $value ? {
      Array   => $value,
      default => [$value],
    }
    $parts.any |$part| { $part =~ Sensitive } or $key =~ /(\A|\.)(password|token)\z/ or ($key =~ /(\A|\.)url\z/ and String($value) =~ /@/)
  }
}
