import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { openBackup, sealBackup, type Backup } from '../../../src/app/identity/backup.ts'
import { codeOf } from '../../../src/core/model/coded-error.ts'
import { parseSaved, savedPart, type Identity, type SavedIdentity } from '../../../src/io/store/identity.ts'

/** The cost of a real file is half a second for each try; the format is the same. */
const CHEAP = { N: 16, r: 8, p: 1 }
const PASSPHRASE = 'correct horse battery staple'

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
const key = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(base64)
const item = fc.uint8Array({ minLength: 1, maxLength: 300 }).map(base64)
const word = fc.string({ maxLength: 30 })
const hex = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'))

/** Any identity that a store could hold. */
const identity = fc.record(
  {
    nodeSeed: key,
    tunnelSeed: key,
    mesh: fc.record({
      k: fc.integer({ min: 1, max: 5 }),
      rootKeys: fc.array(key, { minLength: 1, maxLength: 5 })
    }),
    cluster: word,
    clusterSeed: key,
    clusterItem: item,
    podPrefixes: fc.array(word, { maxLength: 4 }),
    servicePrefixes: fc.array(word, { maxLength: 4 }),
    bootstrap: fc.array(word, { maxLength: 8 }),
    pending: fc.record({ inviteItem: item, inviteSeed: key, certItem: item }),
    rootSeeds: fc.array(key, { maxLength: 5 }),
    rootExported: fc.boolean(),
    seats: fc.array(fc.record({ adminSeed: key, seatItem: item }), { maxLength: 3 }),
    adminSeed: key,
    generation: fc.nat(),
    generationAtMs: fc.nat(),
    certified: fc.record({ node: word, roles: fc.array(word, { maxLength: 3 }) }),
    joinedToken: key,
    invites: fc.array(
      fc.record({ id: hex, cluster: word, prefixes: fc.array(word), expiresMs: fc.nat(), item }),
      { maxLength: 3 }
    ),
    joinedBy: fc.constantFrom('init' as const, 'token' as const),
    joinedAtMs: fc.nat()
  },
  { requiredKeys: ['nodeSeed', 'tunnelSeed'] }
) as fc.Arbitrary<Identity>

const backup: fc.Arbitrary<Backup> = fc.record({
  header: fc.record({ cluster: word, meshId: word, peerId: word, made: word }),
  identity: identity.map(savedPart),
  trust: fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 })
})

const one: Backup = {
  header: { cluster: 'west', meshId: 'mesh-a', peerId: '12D3KooWwest', made: '2026-11-27T10:00:00.000Z' },
  identity: { cluster: 'west', clusterSeed: base64(new Uint8Array(32).fill(7)), generation: 3 },
  trust: [new Uint8Array([1, 2, 3])]
}

/** The code with which a text is refused. */
async function codeFor(text: string, passphrase = PASSPHRASE): Promise<string | undefined> {
  try {
    await openBackup(text, passphrase)
  } catch (error) {
    return codeOf(error)
  }
  return undefined
}

describe('a backup', () => {
  it('is read as it was written, for any identity and any trust set', () =>
    fc.assert(
      fc.asyncProperty(backup, async (written) => {
        const read = await openBackup(await sealBackup(written, PASSPHRASE, CHEAP), PASSPHRASE)
        assert.deepEqual(JSON.parse(JSON.stringify(read)), JSON.parse(JSON.stringify(written)))
      }),
      { numRuns: 100 }
    ))

  it('has no key of the agent, no root key and no pending token, and what is left of an identity is accepted', () =>
    fc.assert(
      fc.property(identity, (whole) => {
        const saved = savedPart(whole)
        const left = Object.keys(saved)
        for (const name of ['nodeSeed', 'tunnelSeed', 'rootSeeds', 'pending', 'certified'])
          assert.ok(!left.includes(name), name)
        assert.deepEqual(parseSaved(structuredClone(saved)), saved)
        assert.equal(parseSaved({ ...saved, nodeSeed: whole.nodeSeed }), undefined)
      })
    ))

  it('does not open after any change of any byte, and says that it is damaged and not that the passphrase is wrong', async () => {
    const text = await sealBackup(one, PASSPHRASE, CHEAP)
    const raw = Buffer.from(text)
    for (let at = 0; at < raw.length; at++)
      for (const bit of [1, 2, 4, 8, 16, 32, 64, 128]) {
        const changed = Buffer.from(raw)
        changed[at] = (raw[at] ?? 0) ^ bit
        const code = await codeFor(changed.toString('utf8'))
        assert.match(code ?? 'opened', /^BACKUP_(DAMAGED|FOREIGN|NEWER)$/, `byte ${at}, bit ${bit}`)
      }
  })

  it('does not open after a change of any field, when the checksum was made anew', async () => {
    const file = JSON.parse(await sealBackup(one, PASSPHRASE, CHEAP)) as Record<string, unknown>
    const { sealed, ...header } = file
    const parts = sealed as Record<string, unknown>
    const flip = (value: string): string => {
      const bytes = Buffer.from(value, 'base64')
      bytes[0] = (bytes[0] ?? 0) ^ 1
      return bytes.toString('base64')
    }
    const changes: readonly Record<string, unknown>[] = [
      { ...header, cluster: 'east' },
      { ...header, meshId: 'mesh-b' },
      { ...header, peerId: '12D3KooWeast' },
      { ...header, made: '2027-11-27T10:00:00.000Z' },
      { sealed: { ...parts, scrypt: { N: 32, r: 8, p: 1 } } },
      ...['salt', 'nonce', 'data'].map((name) => ({
        sealed: { ...parts, [name]: flip(String(parts[name])) }
      }))
    ]
    for (const change of changes)
      assert.equal(await codeFor(signed({ ...file, ...change })), 'PASSPHRASE_WRONG', JSON.stringify(change))
    assert.equal(await codeFor(signed(file)), undefined)
  })

  it('that was cut short anywhere is damaged or no backup', async () => {
    const text = await sealBackup(one, PASSPHRASE, CHEAP)
    for (let length = 0; length < text.length; length++)
      assert.match((await codeFor(text.slice(0, length))) ?? 'opened', /^BACKUP_(DAMAGED|FOREIGN)$/)
    assert.equal(await codeFor(text.slice(0, text.length / 2)), 'BACKUP_DAMAGED')
  })

  it('is told from a wrong passphrase, another file, a file of root keys and a later version', async () => {
    const text = await sealBackup(one, PASSPHRASE, CHEAP)
    const file = JSON.parse(text) as Record<string, unknown>
    assert.equal(await codeFor(text, 'correct horse battery stable'), 'PASSPHRASE_WRONG')
    assert.equal(await codeFor(text.replaceAll('\n', '\r\n')), undefined)
    assert.equal(await codeFor('hello'), 'BACKUP_FOREIGN')
    assert.equal(await codeFor('{"kind":"rhizome root keys 1","meshId":"a","sealed":{}}'), 'BACKUP_FOREIGN')
    assert.equal(await codeFor(JSON.stringify({ ...file, version: 2, more: true })), 'BACKUP_NEWER')
  })

  it('needs a membership that this version knows', async () => {
    const identity = { ...one.identity, later: 1 } as SavedIdentity
    assert.equal(await codeFor(await sealBackup({ ...one, identity }, PASSPHRASE, CHEAP)), 'BACKUP_DAMAGED')
  })
})

/** A file with the checksum of its fields, as a forger makes it. */
function signed(file: Record<string, unknown>): string {
  const { checksum: _, ...fields } = file
  const checksum = createHash('sha256').update(JSON.stringify(fields)).digest('hex')
  return `${JSON.stringify({ ...fields, checksum }, undefined, 2)}\n`
}
