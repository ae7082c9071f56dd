import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openHostMemory } from '../../../../src/io/host/tools/memory.ts'
import { createSysctls } from '../../../../src/io/host/tools/sysctl.ts'

describe('sysctls', () => {
  let folder: string
  let proc: string
  let state: string
  const value = (name: string) => readFileSync(join(proc, name), 'utf8').trim()

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-sysctl-'))
    proc = join(folder, 'proc')
    state = join(folder, 'state')
    mkdirSync(join(proc, 'net/ipv4/conf/wg0'), { recursive: true })
    writeFileSync(join(proc, 'net/ipv4/ip_forward'), '0\n')
    writeFileSync(join(proc, 'net/ipv4/conf/wg0/rp_filter'), '1\n')
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('are observed once set, and restored to what was before the first change, across a restart', async () => {
    const first = createSysctls(await openHostMemory(state), { root: proc })
    assert.deepEqual(await first.observe(), [])
    await first.set({ name: 'net.ipv4.ip_forward', value: '1' })
    await first.set({ name: 'net.ipv4.ip_forward', value: '2' })
    await first.set({ name: 'net.ipv4.conf.wg0.rp_filter', value: '2' })
    const memory = await openHostMemory(state)
    const second = createSysctls(memory, { root: proc })
    assert.deepEqual(await second.observe(), [
      { name: 'net.ipv4.conf.wg0.rp_filter', value: '2' },
      { name: 'net.ipv4.ip_forward', value: '2' }
    ])
    rmSync(join(proc, 'net/ipv4/conf/wg0'), { recursive: true })
    await second.restore()
    assert.equal(value('net/ipv4/ip_forward'), '0')
    await memory.forget()
    assert.deepEqual(await second.observe(), [])
  })

  it('are recorded but not written where they have the value already', async () => {
    const path = join(proc, 'net/ipv4/ip_forward')
    const before = statSync(path, { bigint: true }).mtimeNs
    const sysctls = createSysctls(await openHostMemory(state), { root: proc })
    await sysctls.set({ name: 'net.ipv4.ip_forward', value: '0' })
    assert.equal(statSync(path, { bigint: true }).mtimeNs, before)
    assert.deepEqual(await sysctls.observe(), [{ name: 'net.ipv4.ip_forward', value: '0' }])
  })

  it('refuse a name that leads elsewhere, and one that the kernel lacks', async () => {
    const sysctls = createSysctls(await openHostMemory(state), { root: proc })
    for (const name of ['net/../../../etc/passwd', '..', 'net..ipv4', '', '/net/ipv4/ip_forward']) {
      await assert.rejects(sysctls.set({ name, value: '1' }), /not a sysctl name/, name)
    }
    await assert.rejects(sysctls.set({ name: 'net.ipv4.vs.conntrack', value: '1' }), {
      code: 'SYSCTL_FAILED',
      fix: /ip_vs/
    })
  })

  it('are set while the disk takes nothing, and are recorded as soon as it does', async () => {
    const memory = await openHostMemory(state)
    writeFileSync(state, 'a file where the folder should be')
    await createSysctls(memory, { root: proc }).set({ name: 'net.ipv4.ip_forward', value: '1' })
    assert.equal(value('net/ipv4/ip_forward'), '1')
    await assert.rejects(memory.mend())
    rmSync(state)
    await memory.mend()
    assert.equal((await openHostMemory(state)).sysctls.get('net.ipv4.ip_forward'), '0')
  })

  it('say which file is broken', async () => {
    mkdirSync(state)
    writeFileSync(join(state, 'host.json'), '{"sysctls": 1}')
    await assert.rejects(openHostMemory(state), { code: 'STATE_UNREADABLE', message: /host\.json/ })
  })
})
