// The writer of MeshPeers before API servers that refuse one object, are too busy, or delete all but one.
import assert from 'node:assert/strict'
import { MeshPeers } from '../../../src/app/mcs/mesh-peers.ts'
import type { PeerFacts } from '../../../src/core/mcs/mesh-peer.ts'
import type { KubeCall } from '../../../src/core/kube/kube-api.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { eventually } from '../../eventually.ts'

const NAMES = Array.from({ length: 20 }, (_, index) => `c${index + 10}`)

function facts(cluster: string): PeerFacts {
  return {
    cluster: cluster as ClusterName,
    podPrefixes: [],
    servicePrefixes: [],
    gateways: 1,
    connected: 1,
    isConnecting: false,
    isComplete: true,
    hasConflict: false,
    path: 'direct',
    rttMs: 1,
    services: 3
  }
}

/** A writer, and the calls that were no list, as "PATCH c10" or "PATCH c10/status". */
function writer(
  answer: (said: string) => Error | undefined,
  held: readonly string[] = [],
  listError?: () => Error | undefined
) {
  const said: string[] = []
  const lists = { count: 0 }
  const request = async ({ method = 'GET', path, body }: KubeCall): Promise<unknown> => {
    if (method === 'GET') {
      lists.count++
      const refused = listError?.()
      if (refused !== undefined) throw refused
      return { items: held.map((name) => ({ metadata: { name } })) }
    }
    const one = `${method} ${path.split('/meshpeers/')[1] ?? ''}`
    said.push(one)
    const error = answer(one)
    if (error !== undefined) throw error
    return body
  }
  const peers = new MeshPeers({
    api: { request },
    facts: () => ({ peers: NAMES.map(facts), isWhole: true }),
    isSpeaker: () => true,
    node: 'gw-1',
    log: { warn: () => undefined } as never
  })
  return { peers, said, lists }
}

function refusal(status: number): Error {
  return Object.assign(new Error(`answer ${status}`), { status })
}

describe('the writer of MeshPeers', () => {
  it('writes all objects but the one that is refused, and tells of that one', async () => {
    const { peers, said } = writer((one) => (one.startsWith('PATCH c10') ? refusal(422) : undefined))
    peers.start()
    await eventually(() => said.includes('PATCH c29/status') && peers.faults.length > 0)
    await peers.stop()
    assert.equal(said.filter((one) => one.endsWith('/status')).length, NAMES.length - 1)
    assert.match(peers.faults[0]?.message ?? '', /422/)
  })

  it('ends a pass with the first failure of a server that is too busy', async () => {
    const { peers, said } = writer(() => refusal(503))
    peers.start()
    await eventually(() => peers.faults.length > 0)
    await peers.stop()
    assert.deepEqual(said, ['PATCH c10'])
  })

  for (const [status, why] of [
    [404, 'has no definition of them'],
    [403, 'gives no right to them']
  ] as const)
    it(`has no fault where the cluster ${why}`, async () => {
      const { peers, said, lists } = writer(
        () => undefined,
        [],
        () => refusal(status)
      )
      peers.start()
      await eventually(() => lists.count > 0)
      await peers.stop()
      assert.deepEqual([peers.faults, said], [[], []])
      await peers.undo()
    })

  it('deletes all objects but the one that is refused, and says so', async () => {
    const { peers, said } = writer((one) => (one === 'DELETE c10' ? refusal(403) : undefined), NAMES)
    await assert.rejects(peers.undo(), /answer 403/)
    assert.deepEqual(
      said,
      NAMES.map((name) => `DELETE ${name}`)
    )
  })
})
