import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { Lab } from './support/netns.ts'
import { requireLab } from './support/require.ts'

describe('the lab', () => {
  let lab: Lab
  before(async function () {
    requireLab(this)
    lab = await Lab.create('netns.test')
  })
  after(async () => {
    await lab?.close()
  })

  it('links two namespaces over IPv4 and IPv6', async () => {
    const [a, b] = [await lab.namespace('a'), await lab.namespace('b')]
    await lab.link(a, 'eth0', ['192.0.2.1/24', 'fd00::1/64'], b, 'eth0', ['192.0.2.2/24', 'fd00::2/64'])
    await a.exec(['ping', '-c1', '-W2', '192.0.2.2'])
    await a.exec(['ping', '-c1', '-W2', 'fd00::2'])
  })

  it('gives a namespace its own resolv.conf', async () => {
    const a = await lab.namespace('a')
    await lab.resolvConf(a, 'nameserver 192.0.2.53\n')
    assert.equal((await a.exec(['cat', '/etc/resolv.conf'])).stdout, 'nameserver 192.0.2.53\n')
  })

  it('joins guests at a bridge', async () => {
    const [sw, c, d] = [await lab.namespace('sw'), await lab.namespace('c'), await lab.namespace('d')]
    await lab.bridge(sw, 'br0')
    await lab.attach(sw, 'br0', 'c', { namespace: c, device: 'eth0', cidr: '198.51.100.1/24' })
    await lab.attach(sw, 'br0', 'd', { namespace: d, device: 'eth0', cidr: '198.51.100.2/24' })
    await c.exec(['ping', '-c1', '-W2', '198.51.100.2'])
  })

  it('rejects a failed command unless told not to', async () => {
    const a = await lab.namespace('a')
    await assert.rejects(a.exec(['false']), /exit code 1/)
    assert.equal((await a.exec(['false'], { check: false })).exitCode, 1)
  })

  it('leaves nothing behind, whatever still runs in it', async () => {
    const a = await lab.namespace('a')
    const child = a.spawn(['sleep', '1000'])
    await a.exec(['wireguard-go', lab.device('w')])
    assert.ok((await Lab.leftovers(lab.id)).length > 0)
    assert.equal(running(lab.device('w')).length, 1)
    await lab.close()
    await lab.close()
    assert.deepEqual(await Lab.leftovers(lab.id), [])
    assert.ok(!existsSync(`/run/rhizome-lab/${lab.id}`))
    // A daemon, which is no child of this process.
    assert.deepEqual(running(lab.device('w')), [])
    assert.ok(
      child.killed ||
        child.exitCode !== null ||
        child.signalCode !== null ||
        !existsSync(`/proc/${child.pid}`)
    )
  })
})

/** Command lines of processes with this word. */
function running(word: string): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      } catch {
        return '' // it has ended meanwhile
      }
    })
    .filter((line) => line.split('\0').includes(word))
}
