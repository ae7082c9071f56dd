import assert from 'node:assert/strict'
import { seal, unseal } from '../../../src/io/crypto/passphrase-seal.ts'

const CHEAP = { N: 16, r: 8, p: 1 }
const SECRET = new TextEncoder().encode('a secret')

describe('a secret under a passphrase', () => {
  it('opens with the passphrase and the label that it was sealed with, and with no other', async () => {
    const sealed = await seal(SECRET, 'pass phrase', 'kind 1', CHEAP)
    assert.deepEqual(await unseal(sealed, 'pass phrase', 'kind 1'), SECRET)
    assert.equal(await unseal(sealed, 'pass phrase', 'kind 2'), undefined)
    assert.equal(await unseal(sealed, 'pass phrasf', 'kind 1'), undefined)
    assert.equal(await unseal({ ...sealed, more: 1 }, 'pass phrase', 'kind 1'), undefined)
  })

  it('has one text: base64 of the same bytes that is written differently does not open', async () => {
    const sealed = await seal(SECRET, 'pass phrase', 'kind 1', CHEAP)
    // 16 bytes leave four bits of the last character unused.
    const salt = sealed.salt.replace(/[AQgw]==$/, (end) => `${end === 'A==' ? 'B' : 'A'}==`)
    const others = [{ salt }, { salt: `${sealed.salt}\n` }, { data: sealed.data.replaceAll('=', '') }]
    for (const other of others)
      if (JSON.stringify({ ...sealed, ...other }) !== JSON.stringify(sealed))
        assert.equal(await unseal({ ...sealed, ...other }, 'pass phrase', 'kind 1'), undefined)
  })

  it('does not open when it asks for more memory or time than a file of this program', async () => {
    const sealed = await seal(SECRET, 'pass phrase', 'kind 1', CHEAP)
    for (const scrypt of [
      { N: 1_048_576, r: 8, p: 1 },
      { N: 131_072, r: 32, p: 1 },
      { N: 131_072, r: 8, p: 16 }
    ])
      assert.equal(await unseal({ ...sealed, scrypt }, 'pass phrase', 'kind 1'), undefined)
    assert.equal(await unseal({ ...sealed, data: 'A'.repeat(100) }, 'pass phrase', 'kind 1', 99), undefined)
  })
})
