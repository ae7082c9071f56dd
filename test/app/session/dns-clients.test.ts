import assert from 'node:assert/strict'
import { dnsClients } from '../../../src/app/session/dns-clients.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import type { Cidr, Ip, Origin, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import type { ProvedAgent } from '../../../src/core/view/view.ts'

const agent: ProvedAgent = {
  kind: 'agent',
  wireguardKey: '' as WireguardKey,
  wireguardAddresses: ['203.0.113.7:51820', '[2001:db8::7]:51820'] as PeerAddress[],
  multiaddrs: ['/ip4/192.0.2.7/tcp/7946', '/ip6/2001:db8::8/tcp/7946', '/dns4/gw.example.com/tcp/7946'],
  tunnelAddress: '10.1.0.1' as Ip,
  node: 'a',
  role: 'gateway',
  version: '1',
  probePort: 0
}

describe('clients of the DNS responder', () => {
  it('are pods, hosts of this cluster’s gateways, Nodes, and what dns-allow adds', () => {
    const prefixes = dnsClients({
      settings: { 'dns-allow': ['198.51.100.0/24' as Cidr] },
      podPrefixes: ['10.1.0.0/16' as Cidr, 'fd00:1::/48' as Cidr],
      agents: [{ origin: '' as Origin, agent }],
      nodeAddresses: ['192.0.2.9' as Ip, 'fd00:9::1' as Ip]
    })
    assert.deepEqual(prefixes, [
      '10.1.0.0/16',
      'fd00:1::/48',
      '10.1.0.1/32',
      '203.0.113.7/32',
      '2001:db8::7/128',
      '192.0.2.7/32',
      '2001:db8::8/128',
      '192.0.2.9/32',
      'fd00:9::1/128',
      '198.51.100.0/24'
    ])
  })

  const settings = (allow: string) =>
    resolveSettings({ flags: { 'dns-allow': allow }, env: {}, file: undefined })['dns-allow']

  it('dns-allow takes prefixes and addresses', () => {
    assert.deepEqual(settings('192.0.2.0/24, 198.51.100.7,2001:DB8::/32'), [
      '192.0.2.0/24',
      '198.51.100.7/32',
      '2001:db8::/32'
    ])
    assert.deepEqual(settings(''), [])
  })

  for (const bad of ['192.0.2.1/24', 'everyone', '192.0.2.0/33', '10.0.0.0/8,x']) {
    it(`dns-allow refuses ${bad} with the reason`, () =>
      assert.throws(() => settings(bad), {
        code: 'BAD_SETTING',
        message: /dns-allow.*(prefix|host bits|above 32)/
      }))
  }
})
