// WireGuard of the process wireguard-go, for a kernel without it. The process outlives the agent and ends when its socket is removed.
import { rm, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { HostError } from '../../errors.ts'
import type { Run } from '../../ports.ts'
import { runCommand, type Command } from '../../tools/command.ts'
import type { WireguardDevice } from './device.ts'

const SOCKET_FOLDER = '/var/run/wireguard'
/** It ends within milliseconds; two seconds are for a busy host. */
const RENAMED_LOOKS = 40
const RENAMED_LOOK_MS = 50
const SOCKET_ANSWER_MS = 1_000

export const WIREGUARD_GO: WireguardDevice = {
  tools: ['wireguard-go'],
  createCommand,
  create,
  owns: async ({ kind }, device) => kind === 'tun' && (await isOurSocket(device))
}

function createCommand(device: string): Command {
  return { tool: 'wireguard-go', args: [device] }
}

async function create(run: Run, device: string, signal: AbortSignal): Promise<void> {
  await freeSocket(device, signal)
  try {
    await runCommand(run, createCommand(device), { signal })
  } catch (error) {
    if (error instanceof HostError && /\/dev\/net\/tun/.test(error.stderr)) throw noTun(error)
    throw error
  }
}

/** wireguard-go's sockets lie in one folder for all network namespaces; a Unix socket shows only in its own. */
async function isOurSocket(device: string): Promise<boolean> {
  const sockets = await readFile('/proc/self/net/unix', 'utf8')
  return sockets.split('\n').some((line) => line.endsWith(`/wireguard/${device}.sock`))
}

/**
 * Removes a socket that no process answers on, and ends a wireguard-go of this host whose link has another name now: it ends when its
 * socket is removed. Errors: DEVICE_TAKEN when a process of another network namespace answers.
 */
async function freeSocket(device: string, signal: AbortSignal): Promise<void> {
  const path = `${SOCKET_FOLDER}/${device}.sock`
  if (await isOurSocket(device)) {
    await rm(path, { force: true })
    // It must not see the socket of the next one in the place of its own, and still has the port.
    for (let look = 0; look < RENAMED_LOOKS && (await isOurSocket(device)); look++)
      await delay(RENAMED_LOOK_MS, undefined, { signal })
  }
  if (await answers(path)) {
    throw new HostError({
      code: 'DEVICE_TAKEN',
      message: `a wireguard-go with a device ${device} runs in another network namespace, and both would share ${path}`,
      fix: 'give this agent a tunnel device of another name: --device, RHIZOME_DEVICE or the key device'
    })
  }
  await rm(path, { force: true })
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const finish = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    // A connection that is neither refused nor accepted in time means that a process listens.
    socket.setTimeout(SOCKET_ANSWER_MS, () => finish(true))
    socket.on('connect', () => finish(true))
    socket.on('error', () => finish(false))
  })
}

export function noTun(cause?: unknown): HostError {
  return new HostError({
    code: 'NO_TUN',
    message: 'the kernel has no WireGuard, and wireguard-go cannot open /dev/net/tun',
    fix: 'load the kernel module wireguard or tun; in a container pass the device /dev/net/tun',
    cause
  })
}
