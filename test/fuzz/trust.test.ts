// Hostile credentials, statements and tokens: changed, moved and spliced bytes past every check of form. Nothing counts
// that was not signed. The door has its own file (door.test.ts).
import assert from 'node:assert/strict'
import { base64url } from 'multiformats/bases/base64'
import { decodeInviteToken } from '../../src/core/trust/invite-token.ts'
import { openItem, type OpenedItem } from '../../src/core/trust/set/form.ts'
import { openCredential } from '../../src/core/trust/members/credential.ts'
import { membersOf } from '../core/trust/fixtures.ts'
import {
  AGENTS,
  CREDENTIALS,
  crypto,
  east,
  INVITES,
  ITEMS,
  mesh,
  NOW,
  TOKEN_TEXTS,
  TOKENS,
  west
} from './corpus.ts'
import { base64, budget, fuzz, single } from './fuzz.ts'
import { changeBytes, concat, mutate } from './mutate.ts'

const open = { open: (bytes: Uint8Array) => openItem(mesh, bytes) }
/** Every statement that was signed for this mesh, by its id. */
const SIGNED = new Map(
  [...ITEMS, ...AGENTS.map(({ credential }) => credential.bytes), ...INVITES.map(({ item }) => item)]
    .flatMap((item) => opened(item).statements)
    .map(({ statement, envelope }) => [statement.id, base64(envelope)])
)

describe('hostile trust', () => {
  it('a credential is accepted only as it was signed, to the byte', async function () {
    const { cases, timeoutMs } = budget(1500)
    this.timeout(timeoutMs)
    const genuine = new Set(AGENTS.map(({ credential }) => base64(credential.bytes)))
    let whole = 0
    await fuzz('openCredential', {
      ...single,
      cases,
      make: (random) => mutate(random, CREDENTIALS),
      act: (bytes) => {
        const credential = openCredential(open, bytes)
        const members = membersOf(mesh, [west])
        const { origin } = east.credential
        const admitted = members.admit(origin, bytes).kind === 'admitted'
        if (credential.kind === 'refused') {
          if (credential.rule === 'signature') whole++
          assert.ok(!admitted && !members.isAdmitted(origin), 'admitted what is refused')
          return
        }
        assert.ok(genuine.has(base64(bytes)), 'accepted what none has signed')
        assert.equal(admitted, credential.origin === origin)
      }
    })
    if (cases > 100) assert.ok(whole > 0, 'no mutation got as far as a signature')
  })

  it('a statement is in the set only as it was signed, whatever came before it', async function () {
    const { cases, timeoutMs } = budget(300)
    this.timeout(timeoutMs)
    let taken = 0
    await fuzz('TrustSet.add', {
      cases,
      make: (random) =>
        Array.from({ length: 1 + random.below(8) }, () =>
          random.chance(0.4) ? random.pick(ITEMS) : mutate(random, [...ITEMS, ...CREDENTIALS])
        ),
      bytesOf: (items) => items,
      act: (items) => {
        const members = membersOf(mesh, [])
        const { set } = members
        for (const item of items) {
          const added = set.add(item)
          if (added.kind === 'added') taken++
          else assert.ok(added.reason !== '' && added.fix !== '')
        }
        for (const id of set.ids()) {
          const last = opened(set.itemOf(id) ?? assert.fail('a held statement has an item')).statements.at(-1)
          assert.equal(base64(last?.envelope ?? new Uint8Array()), SIGNED.get(id), 'none has signed it')
        }
        for (const { clusterKey } of members.settlement().values())
          assert.ok(members.standing().clusters.get(clusterKey)?.verdict.stands)
      }
    })
    if (cases > 100) assert.ok(taken > cases / 4, `only ${taken} items were taken`)
  })

  it('a token is accepted only with an invite as it was signed, and its own secret', async function () {
    const { cases, timeoutMs } = budget(1000)
    this.timeout(timeoutMs)
    const invites = new Map(INVITES.map(({ item, inviteSeed }) => [base64(item), base64(inviteSeed)]))
    await fuzz('decodeInviteToken', {
      cases,
      make: (random) => {
        if (random.chance(0.2)) {
          const text = new TextEncoder().encode(random.pick(TOKEN_TEXTS))
          return String.fromCharCode(...changeBytes(random, text, text))
        }
        // Past the checksum, which guards against typing, not against people.
        const body = mutate(random, TOKENS, 16_000)
        const sum = crypto.sha256(body).subarray(0, 4)
        return `rzm2_${base64url.encoder.baseEncode(concat(body, sum))}`
      },
      bytesOf: (text) => [new TextEncoder().encode(text)],
      act: (text) => {
        const token = decodeInviteToken(text, { crypto, nowSeconds: NOW, meshId: undefined })
        if (token.kind === 'refused') {
          assert.ok(token.message !== '' && token.fix !== '')
          return
        }
        assert.equal(invites.get(base64(token.inviteItem)), base64(token.inviteSeed))
        for (const address of token.bootstrap)
          assert.match(address, /^[/A-Za-z0-9._:%-]+\/p2p\/12D3KooW[A-Za-z0-9]+$/)
      }
    })
  })
})

/** A sound item. */
function opened(item: Uint8Array): OpenedItem {
  const found = openItem(mesh, item)
  assert.ok(found.kind === 'item', JSON.stringify(found))
  return found
}
