// A host whose IPv6 default route came by router advertisement keeps it when the mesh switches IPv6 forwarding on. Real advertisements.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pass } from '../../src/app/host/pass.ts'
import { EMPTY_HOST } from '../../src/core/host/normalize.ts'
import { eventually, slowness } from '../eventually.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { remoteHost, type RemoteHost } from './support/remote-host.ts'
import { requireLab } from './support/require.ts'

const ADVERTISE = fileURLToPath(new URL('support/router-advertisement.ts', import.meta.url))

describe('IPv6 forwarding on a host with router advertisements', function () {
  let lab: Lab
  let folder: string
  let count = 0

  before(async function () {
    requireLab(this)
    lab = await Lab.create('uplinks.test')
    folder = mkdtempSync(join(tmpdir(), 'rhizome-uplinks-'))
  })

  after(async () => {
    await lab?.close()
    if (folder !== undefined) rmSync(folder, { recursive: true })
  })

  interface Machine {
    readonly host: Namespace
    readonly edge: RemoteHost
    /** A link named `name` to a router; resolves once the host has the router's link-local address. */
    uplink(name: string): Promise<void>
    advertise(name: string): Promise<void>
    /** Devices of default routes by advertisement. */
    routed(): Promise<readonly string[]>
    sysctl(name: string, value?: string): Promise<string>
    pass(): Promise<void>
  }

  async function machine(): Promise<Machine> {
    count += 1
    const host = await lab.namespace(`h${count}`)
    const router = await lab.namespace(`r${count}`)
    const sysctl = async (name: string, value?: string) => {
      const assignment = value === undefined ? name : `${name}=${value}`
      return (
        await host.exec(['sysctl', '-n', ...(value === undefined ? [] : ['-w']), assignment])
      ).stdout.trim()
    }
    await sysctl('net.ipv6.conf.all.forwarding', '0')
    const options = { device: lab.device(`u${count}`), stateFolder: join(folder, String(count)) }
    const edge = remoteHost(host, { ...options, privateKey: privateKey(), bare: true })
    await edge.start()
    let nowMs = 0
    const passes = new Pass({ host: edge.edge, drainMs: 0, now: () => (nowMs += 20_000) })
    const sysctls = [{ name: 'net.ipv6.conf.all.forwarding', value: '1' }]
    const routed = async () => {
      const { stdout } = await host.exec(['ip', '-6', 'route', 'show', 'default'])
      return [...stdout.matchAll(/ dev (\S+) .*proto ra/g)].map((match) => match[1] ?? '')
    }
    const advertise = async (name: string) => {
      await router.exec([process.execPath, ADVERTISE, name])
    }
    return {
      host,
      edge,
      uplink: async (name) => {
        await lab.link(host, name, undefined, router, name, undefined)
        await eventually(async () => {
          const { stdout } = await router.exec(['ip', '-6', 'address', 'show', 'dev', name, 'scope', 'link'])
          return stdout.includes('fe80:') && !stdout.includes('tentative')
        })
        await eventually(async () => {
          const { stdout } = await host.exec(['ip', '-6', 'address', 'show', 'dev', name, 'scope', 'link'])
          return stdout.includes('fe80:') && !stdout.includes('tentative')
        })
      },
      advertise,
      routed,
      sysctl,
      pass: async () => {
        passes.markStale()
        await passes.run(
          { want: { ...EMPTY_HOST, sysctls }, keeps: [] },
          AbortSignal.timeout(30_000 * slowness())
        )
        assert.deepEqual(passes.failures, { steps: [], parts: [] })
      }
    }
  }

  it('keeps the default route, and puts the setting of before back', async () => {
    const one = await machine()
    await one.uplink('up0')
    await one.advertise('up0')
    await eventually(async () => (await one.routed()).includes('up0'))
    await one.pass()
    assert.deepEqual(await one.routed(), ['up0'])
    assert.equal(await one.sysctl('net.ipv6.conf.up0.accept_ra'), '2')
    assert.equal(await one.sysctl('net.ipv6.conf.all.forwarding'), '1')
    await one.advertise('up0')
    await one.edge.cleanup()
    assert.equal(await one.sysctl('net.ipv6.conf.up0.accept_ra'), '1')
    assert.equal(await one.sysctl('net.ipv6.conf.all.forwarding'), '0')
    assert.deepEqual(await one.routed(), ['up0'])
  })

  it('lets an uplink that comes later, or whose first advertisement comes later, have a default route', async () => {
    const one = await machine()
    await one.uplink('up0')
    await one.pass()
    await one.advertise('up0')
    await eventually(async () => (await one.routed()).includes('up0'))
    await one.uplink('up1')
    await one.pass()
    await one.advertise('up1')
    await eventually(async () => (await one.routed()).includes('up1'))
    // A device that goes and comes has the kernel's own settings again.
    await one.host.exec(['ip', 'link', 'delete', 'up0'])
    await one.uplink('up0')
    await one.pass()
    await one.advertise('up0')
    await eventually(async () => (await one.routed()).length === 2)
  })

  it('repairs a setting that was put back, and leaves one that takes no advertisements', async () => {
    const one = await machine()
    await one.uplink('up0')
    await one.uplink('up1')
    await one.sysctl('net.ipv6.conf.up1.accept_ra', '0')
    await one.pass()
    assert.equal(await one.sysctl('net.ipv6.conf.up0.accept_ra'), '2')
    assert.equal(await one.sysctl('net.ipv6.conf.up1.accept_ra'), '0')
    await one.sysctl('net.ipv6.conf.up0.accept_ra', '1')
    await one.pass()
    assert.equal(await one.sysctl('net.ipv6.conf.up0.accept_ra'), '2')
  })

  it('lets no pod become the router: ports of bridges, bridges, and links with routes to single pods are left alone', async () => {
    const one = await machine()
    const pods = await lab.namespace('pods')
    await lab.bridge(one.host, 'docker0', '172.17.0.1/16')
    await lab.attach(one.host, 'docker0', 'veth0', { namespace: pods, device: 'eth0', cidr: '172.17.0.2/16' })
    await lab.link(one.host, 'cali0', undefined, pods, 'eth1', undefined)
    await one.host.exec(['ip', 'route', 'add', '10.1.0.9', 'dev', 'cali0'])
    await one.pass()
    for (const link of ['docker0', 'veth0', 'cali0', 'lo'])
      assert.equal(await one.sysctl(`net.ipv6.conf.${link}.accept_ra`), '1', link)
  })

  it('changes nothing where forwarding was on before', async () => {
    const one = await machine()
    await one.uplink('up0')
    await one.sysctl('net.ipv6.conf.all.forwarding', '1')
    await one.pass()
    assert.equal(await one.sysctl('net.ipv6.conf.up0.accept_ra'), '1')
  })
})

function privateKey(): string {
  const der = generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'der' })
  return der.subarray(-32).toString('base64')
}
