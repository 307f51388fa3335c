require_relative '../spec_helper'

# A machine that is a node and a receiver: the package goes with the last of them.
describe 'mcollective_agent_logforward' do
  let(:facts) { { 'os' => { 'family' => 'Debian', 'name' => 'Debian' } } }
  let(:pre_condition) { 'include mcollective' }
  let(:params) { { ensure: 'absent' } }

  receiver = "class { mcollective_agent_logforward::receiver: settings => {url => 'nats://x'} }"

  context 'when the node is to go and the receiver stays' do
    let(:pre_condition) { "include mcollective; #{receiver}" }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_package('logforward').with_ensure('installed') }
    it { is_expected.to contain_service('logforward-forward').with_ensure('stopped') }
    it { is_expected.to contain_service('logforward-receive').with_ensure('running') }
  end

  context 'when the receiver, which stays, is declared later' do
    let(:post_condition) { receiver }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_package('logforward').with_ensure('installed') }
  end

  context 'when the receiver is to go and the node stays' do
    let(:pre_condition) { 'include mcollective; class { mcollective_agent_logforward::receiver: ensure => absent }' }
    let(:params) { { destinations: { 'central' => { 'url' => 'nats://x' } } } }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_package('logforward').with_ensure('installed') }
    it { is_expected.to contain_service('logforward-receive').with_ensure('stopped') }
  end

  context 'when both are to go' do
    let(:pre_condition) { 'include mcollective; class { mcollective_agent_logforward::receiver: ensure => absent }' }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_package('logforward').with_ensure('absent') }
  end

  context 'when somebody else installs' do
    let(:pre_condition) { 'include mcollective; class { mcollective_agent_logforward::install: manage => false }' }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.not_to contain_package('logforward') }
  end
end

describe 'mcollective_agent_logforward::receiver' do
  context 'when it is alone, and to go' do
    let(:params) { { ensure: 'absent' } }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_package('logforward').with_ensure('absent').that_requires('Service[logforward-receive]') }
  end
end
