import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { HostError } from '../../../../../src/io/host/errors.ts'
import { parseWgDump } from '../../../../../src/io/host/tunnel/wireguard/wg-dump.ts'

const SECRET = 'cHJpdmF0ZXByaXZhdGVwcml2YXRlcHJpdmF0ZTEyMzQ='
const KEY = 'vpFHDVK3ND6l//DoQG5SpNx4GmYofhshf2buEM6P7C8='
const PEER_A = 'ATzx8gU/hYoSVMjCLzpRmxc4EACjRYfuc9j0y3gFMhM='
const PEER_B = 'tD/F/dKsnMsLbRNTxfeSV8jnw1rUJsowghJb4AQbqRQ='

describe('the dump of wg', () => {
  it('gives device and peers, sorted, without the private and preshared keys', () => {
    const dump = parseWgDump(
      [
        [SECRET, KEY, '51820', '0x2000'],
        [PEER_B, SECRET, '[fd0f:0::1]:5555', 'fd02::/64,10.2.0.0/16', '1700000000', '12', '148', '25'],
        [PEER_A, '(none)', '(none)', '(none)', '0', '0', '0', 'off']
      ]
        .map((fields) => fields.join('\t'))
        .join('\n')
    )
    assert.deepEqual(dump, {
      publicKey: KEY,
      listenPort: 51820,
      fwmark: 0x2000,
      peers: [
        {
          publicKey: PEER_A,
          peerAddress: undefined,
          allowedIps: [],
          lastHandshakeSeconds: 0,
          rxBytes: 0,
          txBytes: 0,
          keepaliveSeconds: 0
        },
        {
          publicKey: PEER_B,
          peerAddress: '[fd0f::1]:5555',
          allowedIps: ['10.2.0.0/16', 'fd02::/64'],
          lastHandshakeSeconds: 1_700_000_000,
          rxBytes: 12,
          txBytes: 148,
          keepaliveSeconds: 25
        }
      ]
    })
    assert.doesNotMatch(JSON.stringify(dump), /cHJpdm/)
  })

  it('knows a device that has no key yet', () => {
    assert.deepEqual(parseWgDump('(none)\t(none)\t45207\toff\n'), {
      publicKey: undefined,
      listenPort: 45207,
      fwmark: 0,
      peers: []
    })
  })

  const broken: readonly string[] = ['', SECRET, `${SECRET}\t${KEY}\t1`, `${SECRET}\tnot a key\t1\toff`]
  for (const text of broken) {
    it(`rejects ${JSON.stringify(text.replace(SECRET, '<secret>'))} as output of wg, without quoting it`, () => {
      assert.throws(
        () => parseWgDump(text),
        (error) => {
          assert.ok(error instanceof HostError)
          assert.deepEqual([error.code, error.tool], ['TOOL_FAILED', 'wg'])
          assert.match(error.fix ?? '', /`wg --version`.*wireguard-tools/)
          assert.ok(!inspect(error).includes(SECRET))
          return true
        }
      )
    })
  }
})
