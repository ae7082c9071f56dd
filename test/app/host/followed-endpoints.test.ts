import assert from 'node:assert/strict'
import { FollowedEndpoints } from '../../../src/app/host/followed-endpoints.ts'
import type { ClusterName, Origin, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import type { ClusterView, MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

function viewOf(key: string, wireguardAddresses: readonly string[]): MeshView {
  const agent = { wireguardKey: key as WireguardKey, wireguardAddresses } as unknown as ProvedAgent
  const east = { name: 'east', agents: [{ origin: 'gw' as Origin, agent }] } as unknown as ClusterView
  return { self: 'west' as ClusterName, clusters: new Map([['east' as ClusterName, east]]) }
}

const addresses = (view: MeshView) =>
  [...view.clusters.values()].flatMap(({ agents }) => agents[0]?.agent.wireguardAddresses)

describe('the endpoint of a gateway whose tunnel key has changed', () => {
  it('is that of the key before where the gateway announces no address, and stays with the key', () => {
    let endpoint: PeerAddress | undefined = '198.51.100.7:4711' as PeerAddress
    const followed = new FollowedEndpoints(() => endpoint)
    assert.deepEqual(addresses(followed.follow(viewOf('k1', []))), [], 'it dials this host')
    assert.deepEqual(addresses(followed.follow(viewOf('k2', []))), ['198.51.100.7:4711'])
    endpoint = undefined
    assert.deepEqual(addresses(followed.follow(viewOf('k2', []))), ['198.51.100.7:4711'])
    assert.deepEqual(addresses(followed.follow(viewOf('k3', []))), [])
  })

  it('is the announced address where there is one', () => {
    const followed = new FollowedEndpoints(() => '198.51.100.7:4711' as PeerAddress)
    for (const key of ['k1', 'k2'])
      assert.deepEqual(addresses(followed.follow(viewOf(key, ['203.0.113.9:51820']))), ['203.0.113.9:51820'])
  })
})
