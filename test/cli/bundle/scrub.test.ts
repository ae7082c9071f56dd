// Every form in which a key may stand in a text, and the public values and names that must stay.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { base32 } from 'multiformats/bases/base32'
import { base58btc } from 'multiformats/bases/base58'
import { REMOVED, Scrubber } from '../../../src/cli/bundle/scrub.ts'

const key = fc.uint8Array({ minLength: 32, maxLength: 64 }).filter((bytes) => new Set(bytes).size > 20)
const FORMS: Readonly<Record<string, (bytes: Uint8Array) => string>> = {
  base64: (bytes) => Buffer.from(bytes).toString('base64'),
  base64url: (bytes) => Buffer.from(bytes).toString('base64url'),
  hexadecimal: (bytes) => Buffer.from(bytes).toString('hex'),
  base32: (bytes) => base32.encoder.baseEncode(bytes),
  base58: (bytes) => base58btc.encoder.baseEncode(bytes),
  'a list of numbers': (bytes) => [...bytes].join(', '),
  'JSON of a Uint8Array': (bytes) => JSON.stringify(bytes)
}
const PEER = '12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtF'

describe('the scrubber of a bundle', () => {
  for (const [form, write] of Object.entries(FORMS))
    it(`removes a key in ${form}, whatever stands around it`, () => {
      const around = fc.constantFrom(
        '',
        ' ',
        '"',
        "'",
        '=',
        ':',
        '/',
        '(',
        '\n',
        'key=',
        '/var/lib/',
        `${PEER}/`
      )
      fc.assert(
        fc.property(key, around, around, (bytes, before, after) => {
          const secret = write(bytes)
          const cleaned = new Scrubber().clean(`found ${before}${secret}${after} here`)
          assert.ok(!cleaned.includes(secret), cleaned)
          // No part of it that would help to guess the rest: a sixth of the key.
          assert.ok(!cleaned.includes(secret.slice(8, 8 + Math.floor(secret.length / 6))), cleaned)
          assert.ok(cleaned.includes(REMOVED))
        })
      )
    })

  it('removes what a name says to be a secret, tokens, and files of keys, however short', () => {
    const cases = [
      'private key: abcdefgh12',
      'PrivateKey = abcdefgh12',
      '"nodeSeed":"abcdefgh12"',
      '"rootSeeds": ["abcdefgh12"]',
      'passphrase=abcdefgh12',
      'rzm2_abcdefgh12',
      'rzg1_abcdefgh12',
      'Bearer eyJhbGci.abcdefgh12.x',
      '-----BEGIN PRIVATE KEY-----\nabcdefgh12\n-----END PRIVATE KEY-----',
      '-----BEGIN EC PRIVATE KEY-----\nabcdefgh12'
    ]
    for (const text of cases) {
      const scrubber = new Scrubber()
      assert.doesNotMatch(scrubber.clean(text), /abcdefgh12/, text)
      assert.equal(scrubber.removed, 1, text)
    }
  })

  it('keeps names, addresses, paths and public values', () => {
    const scrubber = new Scrubber()
    const wireguard = 'd2VzdHdlc3R3ZXN0d2VzdHdlc3R3ZXN0d2VzdHdlc3Q='
    const statement = 'ab01'.repeat(16)
    scrubber.allow([wireguard, statement, 'short'])
    const text = [
      `peer ${PEER} at /ip4/192.0.2.1/tcp/7946/p2p/${PEER}`,
      `${wireguard}\t10.2.0.0/16`,
      `"${statement}"`,
      'check the Secret rhizome-cluster-key: the agent tries again',
      'recommendation-service-frontend-cache-primary-7f9c6d.shop.svc.cluster.east',
      '/var/lib/kubelet/pods/0b1c2d3e-0b1c-2d3e-4f50-61728394a5b6/volumes/kubernetes.io~empty-dir',
      'token-file: /etc/rhizome/token, tokens: 3, seed: 42, private key: undefined',
      '2001:db8:85a3::8a2e:370:7334 fd00:1:2:3:4:5:6:7/128 10.1.0.0/16, 10.2.0.0/16'
    ].join('\n')
    assert.equal(scrubber.clean(text), text)
    assert.equal(scrubber.removed, 0)
  })

  it('takes time in proportion to the text, also for one that an attacker wrote', () => {
    const text = [
      '1,'.repeat(200_000),
      'A'.repeat(500_000),
      'aA1/'.repeat(100_000),
      '-----BEGIN A-----'.repeat(10_000),
      'seed'.repeat(50_000),
      `${PEER}/`.repeat(5000)
    ].join('\n')
    const startedMs = performance.now()
    new Scrubber().clean(text)
    // Milliseconds; it takes some 100. Quadratic time would be minutes.
    assert.ok(performance.now() - startedMs < 20_000)
  })
})
