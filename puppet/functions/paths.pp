# Additions to a packaged unit for what its daemon is to write to elsewhere than where the package has it: the unit lets it write nowhere else, and hides
# homes and temporary directories from a receiver.
#
# @param directories The directories, absolute; with a dash before it one that needn't be there
# @return [String] The file's content
function mcollective_agent_logforward::paths(Array[String] $directories) >> String {
  # A blank would end the path, a percent sign begin a word of the unit's.
  $writable = $directories.unique.map |$path| { "ReadWritePaths=\"${path.regsubst('[\\\\"]', '\\\\\\0', 'G').regsubst('%', '%%', 'G')}\"" }
  $homes = $directories.any |$path| { $path =~ /\A-?\/(home|root|run\/user)(\/|\z)/ }
  $temporary = $directories.any |$path| { $path =~ /\A-?(\/var)?\/tmp(\/|\z)/ }
  $shown = [[$homes, 'ProtectHome=read-only'], [$temporary, 'TemporaryFileSystem=']].filter |$one| { $one[0] }.map |$one| { $one[1] }
  (['# Managed by Puppet.', '[Service]'] + $writable + $shown + ['']).join("\n")
}
