# @summary What an operator's machine needs besides the agent's description: the settings of commands
#
# @api private
class mcollective_agent_logforward::operator {
  $values = $mcollective_agent_logforward::config + $mcollective_agent_logforward::client_config

  unless $values.empty {
    $text = mcollective_agent_logforward::settings($values)
    if mcollective_agent_logforward::secret($values) {
      $content = Sensitive($text)
      $mode = '0640'
    } else {
      $content = $text
      $mode = '0644'
    }
    file { $mcollective_agent_logforward::settings_file:
      ensure  => $mcollective_agent_logforward::ensure,
      owner   => $mcollective_agent_logforward::owner,
      group   => $mcollective_agent_logforward::group,
      mode    => $mode,
      content => $content,
    }
  }
}
