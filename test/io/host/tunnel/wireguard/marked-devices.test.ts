// The devices that a cleanup leaves: which of all WireGuard devices an agent has made.
import assert from 'node:assert/strict'
import { markedDevices } from '../../../../../src/io/host/tunnel/wireguard/marked-devices.ts'
import type { Run } from '../../../../../src/io/host/ports.ts'

it('finds devices of other names with our mark, in this network namespace only', async () => {
  const run: Run = async (tool, args) => {
    const command = [tool, ...args].join(' ')
    if (command === 'wg show all fwmark')
      return {
        stdout: 'rhizome0\t0x2000\nwg7\t0x2000\nhome\toff\nfar\t0x2000\nvpn\t0x1\n',
        stderr: '',
        exitCode: 0
      }
    const name = args.at(-1) ?? ''
    if (name === 'far') return { stdout: '', stderr: 'Device "far" does not exist.', exitCode: 1 }
    const link = { ifname: name, mtu: 1420, flags: ['UP'], linkinfo: { info_kind: 'wireguard' } }
    return { stdout: JSON.stringify([link]), stderr: '', exitCode: 0 }
  }
  const found = await markedDevices(run, { device: 'rhizome0', fwmark: 0x2000 }, AbortSignal.timeout(1000))
  assert.deepEqual(found, ['wg7'])
})
