require_relative '../spec_helper'

describe 'mcollective_agent_logforward::receiver' do
  let(:facts) { { 'os' => { 'family' => 'Debian', 'name' => 'Debian' } } }
  let(:node) { 'centre.example.net' }

  cfg = '/etc/logforward/receive.cfg'

  context 'with a broker, streams and an output of its own' do
    let(:params) do
      { settings: { 'url' => 'nats://x', 'output' => '/srv/logs', 'rotate_size' => '1GiB', 'retain_age' => '365d', 'compress' => 'zstd' }, setup: { 'partitions' => 8, 'replicas' => 3 }, manage_setup: true }
    end

    it { is_expected.to compile.with_all_deps }
    it do
      is_expected.to contain_file(cfg).with(mode: '0640', group: 'logforward-receive', validate_cmd: '/usr/bin/logforward config --for receive --config % > /dev/null').with_content(<<~CFG)
        # Managed by Puppet.
        compress = zstd
        output = /srv/logs
        partitions = 8
        replicas = 3
        retain_age = 365d
        rotate_size = 1GiB
        state = /var/lib/logforward/receive
        url = nats://x
      CFG
    end
    it { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d/paths.conf').with_content("# Managed by Puppet.\n[Service]\nReadWritePaths=\"/srv/logs\"\n") }
    it('has the service begin anew with it') { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d/paths.conf').that_notifies('Service[logforward-receive]') }
    it('leaves the additions of others alone') { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d').with_ensure('directory').without_purge.without_recurse }
    it('makes what the unit is to write to') do
      is_expected.to contain_exec('logforward directory /srv/logs').with(creates: '/srv/logs', command: "install -d -m 0750 -o 'logforward-receive' -g 'logforward-receive' -- '/srv/logs'")
                                                                   .that_comes_before('Service[logforward-receive]').that_requires('Package[logforward]')
    end
    it { is_expected.to contain_exec('logforward setup').with_unless("test -x /usr/bin/logforward && /usr/bin/logforward setup --check --config '#{cfg}'").that_comes_before('Service[logforward-receive]') }
    it { is_expected.to contain_service('logforward-receive').with(ensure: 'running', enable: true).that_subscribes_to("File[#{cfg}]") }
  end

  context 'with directories that others make' do
    let(:params) { { settings: { 'output' => '/srv/logs' }, manage_directories: false } }

    it { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d/paths.conf').with_ensure('file') }
    it { is_expected.not_to contain_exec('logforward directory /srv/logs') }
  end

  context 'with where the package has its output' do
    let(:params) { { settings: { 'url' => 'nats://x' } } }

    it { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d/paths.conf').with_ensure('absent') }
    it('leaves the additions of others alone') { is_expected.not_to contain_file('/etc/systemd/system/logforward-receive.service.d') }
    it { is_expected.not_to contain_exec('logforward setup') }
  end

  context 'when it is to go' do
    let(:params) { { ensure: 'absent' } }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_file(cfg).with_ensure('absent') }
    it { is_expected.to contain_service('logforward-receive').with_ensure('stopped') }
  end

  context 'with an output that a unit and a shell would misread' do
    let(:params) { { settings: { 'output' => %q(/srv/a b's 100%\\"), 'state' => '/srv/state' } } }

    it { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d/paths.conf').with_content(%Q(# Managed by Puppet.\n[Service]\nReadWritePaths="/srv/a b's 100%%\\\\\\""\nReadWritePaths="/srv/state"\n)) }
    it { is_expected.to contain_exec(%q(logforward directory /srv/a b's 100%\\")).with_command(%q(install -d -m 0750 -o 'logforward-receive' -g 'logforward-receive' -- '/srv/a b'\\''s 100%\\"')) }
  end

  {
    '/home/lf/logs' => 'ProtectHome=read-only', '/root' => 'ProtectHome=read-only', '/run/user/1/x' => 'ProtectHome=read-only', '/tmp/x' => 'TemporaryFileSystem=', '/var/tmp' => 'TemporaryFileSystem='
  }.each do |output, shown|
    context "with an output that the unit hides, #{output}" do
      let(:params) { { settings: { 'output' => output } } }

      it { is_expected.to contain_file('/etc/systemd/system/logforward-receive.service.d/paths.conf').with_content(%Q(# Managed by Puppet.\n[Service]\nReadWritePaths="#{output}"\n#{shown}\n)) }
    end
  end

  { user: "x' $(id) '", group: 'a b', owner: '', service_name: 'a/b' }.each do |name, bad|
    context "with a #{name} that a shell or a path would misread" do
      let(:params) { { settings: { 'output' => '/srv/logs' }, name => bad } }

      it { is_expected.not_to compile }
    end
  end

  context 'with a password in the broker’s URL' do
    let(:params) { { settings: { 'url' => sensitive('nats://u:hunter2@x') } } }

    it { is_expected.to contain_file(cfg).with_content(sensitive("# Managed by Puppet.\noutput = /var/lib/logforward/received\nstate = /var/lib/logforward/receive\nurl = nats://u:hunter2@x\n")) }
  end

  context 'with rotation that can’t be' do
    let(:params) { { settings: { 'compress' => 'rar' } } }

    it { is_expected.not_to compile }
  end
end
