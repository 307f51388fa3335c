# @summary The package, which brings the program, its units, its manual and its directories
#
# It is there as long as a node or a receiver on this machine wants it, in whichever order they are declared, and goes with the
# last of them.
#
# @param manage Whether the package is Puppet's matter at all
# @param package_name Its name
# @param ensure A version, `installed` or `latest`
# @param source File of the package, for a provider that takes one
# @param provider Provider, such as `dpkg` or `rpm` for a file
class mcollective_agent_logforward::install (
  Boolean             $manage       = true,
  String[1]           $package_name = 'logforward',
  String[1]           $ensure       = 'installed',
  Optional[String[1]] $source       = undef,
  Optional[String[1]] $provider     = undef,
) {
  if $manage {
    package { 'logforward':
      ensure   => 'absent',
      name     => $package_name,
      source   => $source,
      provider => $provider,
    }
  }
}
