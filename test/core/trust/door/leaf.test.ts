import assert from 'node:assert/strict'
import type { Role } from '../../../../src/core/model/values.ts'
import { leafRejection } from '../../../../src/core/trust/door/leaf.ts'
import type { KeyId } from '../../../../src/core/trust/set/ids.ts'

const party = (cluster: string, ...roles: readonly Role[]) => ({
  clusterKey: cluster as KeyId,
  cert: { roles }
})

describe('a connection of a node', () => {
  for (const [own, peer, isAllowed] of [
    [party('west', 'gateway'), party('east', 'gateway'), true],
    [party('west', 'gateway'), party('west', 'node'), true],
    [party('west', 'node'), party('west', 'gateway'), true],
    [party('west', 'node'), party('west', 'node'), false],
    [party('west', 'gateway'), party('east', 'node'), false],
    [party('west', 'node'), party('east', 'gateway'), false],
    [party('west', 'node'), party('east', 'node'), false],
    [party('west', 'node', 'gateway'), party('east', 'gateway'), true]
  ] as const)
    it(`${own.cert.roles.join('+')} and ${peer.cert.roles.join('+')} of ${own.clusterKey === peer.clusterKey ? 'one cluster' : 'two clusters'}: ${isAllowed ? 'allowed' : 'refused'}`, () => {
      assert.equal(leafRejection(own, peer) === undefined, isAllowed)
      assert.equal(leafRejection(peer, own) === undefined, isAllowed, 'both sides say the same')
    })

  it('a newcomer is no node', () =>
    assert.equal(leafRejection(undefined, party('east', 'gateway')), undefined))
})
