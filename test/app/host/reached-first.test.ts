import assert from 'node:assert/strict'
import { peerHostOf, reachedFirst } from '../../../src/app/host/reached-first.ts'
import type { ClusterName, Origin, PeerAddress } from '../../../src/core/model/values.ts'
import type { MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

const OFFERED = ['10.0.0.7:51820', '203.0.113.7:51820', '[2001:db8::7]:51820'] as PeerAddress[]

function order(host: string | undefined, found?: string): readonly string[] | undefined {
  const agent: Partial<ProvedAgent> = { wireguardAddresses: OFFERED }
  const east = 'east' as ClusterName
  const agents = [{ origin: 'e1' as Origin, agent: agent as ProvedAgent }]
  const view: MeshView = {
    self: 'west' as ClusterName,
    clusters: new Map([
      [
        east,
        {
          name: east,
          podPrefixes: [],
          servicePrefixes: [],
          agents,
          services: new Map(),
          complete: true,
          conflicts: [],
          refusals: []
        }
      ]
    ])
  }
  const made = reachedFirst(view, { host: () => host, found: () => found as PeerAddress | undefined })
  return made.clusters.get(east)?.agents[0]?.agent.wireguardAddresses
}

describe('the addresses that a tunnel is sent to', () => {
  it('begin with the one where the control connection reaches the agent', () => {
    assert.deepEqual(order('203.0.113.7'), [OFFERED[1], OFFERED[0], OFFERED[2]])
    assert.deepEqual(order('[2001:db8::7]'), [OFFERED[2], OFFERED[0], OFFERED[1]])
  })

  it('begin with the endpoint found at the start, until a control connection reaches the agent', () => {
    assert.deepEqual(order(undefined, OFFERED[1]), [OFFERED[1], OFFERED[0], OFFERED[2]])
    assert.deepEqual(order('10.0.0.7', OFFERED[1]), OFFERED)
  })

  it('keep their order where no address is known to work', () => {
    assert.deepEqual(order(undefined), OFFERED)
    assert.deepEqual(order('198.51.100.1'), OFFERED)
  })

  it('are compared with the host of a multiaddr', () => {
    assert.equal(peerHostOf('/ip4/203.0.113.7/tcp/7946'), '203.0.113.7')
    assert.equal(peerHostOf('/ip6/2001:db8::7/tcp/7946'), '[2001:db8::7]')
    assert.equal(peerHostOf('/dns/east.example/tcp/7946'), undefined)
    assert.equal(peerHostOf(undefined), undefined)
  })
})
