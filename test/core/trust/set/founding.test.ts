// Who can found a cluster without an invite: the holders of k of the n roots (`meshctl root import`, then `init`), and nobody with
// fewer, whatever they put in the place of the others.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { encodeItem } from '../../../../src/core/trust/set/form.ts'
import { meshRoots } from '../../../../src/core/trust/set/mesh-roots.ts'
import { signStatement } from '../../../../src/core/trust/set/signatures.ts'
import type { Draft } from '../../../../src/core/trust/set/statement.ts'
import {
  decodeTrustItem,
  encodeMessage,
  type StatementMessage,
  wire
} from '../../../../src/core/wire/messages.ts'
import { clusterName } from '../fixtures.ts'
import { look, World } from './world.ts'

/** One signature that a thief puts into a certificate: by the seed of a root, by a key of its own, or one of another statement. */
const signature = fc.record({
  root: fc.nat(3),
  by: fc.constantFrom('root', 'root', 'own', 'elsewhere', 'other root')
})

describe('a founding certificate', () => {
  it('counts with the signatures of k different roots over it, each once and in order, and with nothing less', () => {
    fc.assert(
      fc.property(fc.array(signature, { maxLength: 4 }), fc.boolean(), (signatures, sorted) => {
        const world = new World({ roots: 3, k: 2 })
        const { crypto } = world
        const listed = sorted ? signatures.toSorted((a, b) => a.root - b.root) : signatures
        const clusterSeed = crypto.random(32)
        const draft: Draft = {
          kind: 'clusterCert',
          invite: undefined,
          name: clusterName('west'),
          clusterKey: world.keyOf(clusterSeed),
          pods: [],
          services: []
        }
        const honest = signStatement(world, draft, { roots: world.rootSeeds, accepting: clusterSeed })
        const elsewhere = signStatement(world, draft, { roots: world.rootSeeds, accepting: clusterSeed })
        const [message, other] = [opened(honest.envelope), opened(elsewhere.envelope)]
        // A root that a thief has made: its signature is valid for its own mesh only.
        const foreign = signStatement(
          { crypto, roots: meshRoots(crypto, 1, [crypto.publicKeyOf(clusterSeed)]) },
          draft,
          { roots: [clusterSeed], accepting: clusterSeed }
        )
        const rootSignatures = listed.map(({ root, by }) => {
          const real = message.rootSignatures[root % 3]?.signature ?? assert.fail()
          if (by === 'root') return { root, signature: real }
          if (by === 'other root')
            return { root, signature: message.rootSignatures[(root + 1) % 3]?.signature ?? real }
          const taken = by === 'own' ? opened(foreign.envelope) : other
          return { root, signature: taken.rootSignatures[by === 'own' ? 0 : root % 3]?.signature ?? real }
        })
        const item = encodeItem([encodeMessage(wire.Statement, { ...message, rootSignatures })])
        const numbers = listed.map(({ root }) => root)
        const isWhole =
          listed.every(({ by, root }) => by === 'root' && root < 3) &&
          numbers.every((root, at) => at === 0 || (numbers[at - 1] ?? 0) < root) &&
          numbers.length >= 2
        const set = world.set()
        const added = set.add(item)
        if (isWhole) assert.equal(added.kind, 'added', JSON.stringify(added))
        else {
          assert.notEqual(added.kind, 'added', JSON.stringify(listed))
          assert.equal(look(set).standing.clusters.size, 0)
        }
      }),
      { numRuns: 500 }
    )
  })
})

/** The statement of an envelope. */
function opened(envelope: Uint8Array): StatementMessage {
  return decodeTrustItem(encodeItem([envelope]))?.statements[0] ?? assert.fail()
}
