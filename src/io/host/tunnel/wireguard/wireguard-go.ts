// The WireGuard device of the process wireguard-go, for a kernel without WireGuard. The process makes a TUN device and
// listens on the socket /var/run/wireguard/<device>.sock, through which `wg` sets it up
// (https://www.wireguard.com/xplatform/). It outlives the agent, so that traffic continues, and ends when its socket is
// removed.
import { rm, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { HostError } from '../../errors.ts'
import type { Run } from '../../ports.ts'
import { runCommand, type Command } from '../../tools/command.ts'
import type { WireguardDevice } from './device.ts'

const SOCKET_FOLDER = '/var/run/wireguard'
/**
 * A wireguard-go ends within milliseconds after its socket was removed. On a busy host it may take longer, so this
 * agent looks up to 40 times, every 50 ms.
 */
const RENAMED_LOOKS = 40
const RENAMED_LOOK_MS = 50
// Deadline for the connection to a socket. A process that listens accepts within milliseconds.
const SOCKET_ANSWER_MS = 1_000

/** The implementation by the process wireguard-go. */
export const WIREGUARD_GO: WireguardDevice = {
  tools: ['wireguard-go'],
  createCommand,
  create,
  owns: async ({ kind }, device) => kind === 'tun' && (await isOurSocket(device))
}

function createCommand(device: string): Command {
  return { tool: 'wireguard-go', args: [device] }
}

/**
 * Starts wireguard-go, which makes the device and goes to the background. The path of its socket is made free before.
 * Errors: DEVICE_TAKEN; NO_TUN where /dev/net/tun cannot be opened or is no TUN device; other HostErrors of wireguard-go,
 * with a fix where its socket cannot be made.
 */
async function create(run: Run, device: string, signal: AbortSignal): Promise<void> {
  await freeSocket(device, signal)
  try {
    await runCommand(run, createCommand(device), { signal })
  } catch (error) {
    throw error instanceof HostError ? explained(error) : error
  }
}

/** The error of wireguard-go as one that says what to do, where its words tell. */
function explained(error: HostError): HostError {
  const { stderr } = error
  const [, reason = stderr] = /^ERROR: \(.*?\) \S+ \S+ (.*)$/m.exec(stderr) ?? []
  if (/\/dev\/net\/tun|create TUN device: (?:inappropriate ioctl|no such)/i.test(stderr))
    return noTun(error, reason)
  if (!reason.startsWith('UAPI')) return error
  return new HostError({
    code: 'TOOL_FAILED',
    tool: 'wireguard-go',
    stderr,
    message: `wireguard-go cannot make its socket: ${reason}`,
    fix: `make the folder ${SOCKET_FOLDER} writable for the agent; in the chart set userspaceWireguard: true`,
    cause: error
  })
}

/**
 * Returns whether the socket of this device belongs to this network namespace. The folder of the sockets is one for all
 * namespaces of a host, but /proc/self/net/unix lists only the sockets of its own (unix(7)).
 */
async function isOurSocket(device: string): Promise<boolean> {
  const sockets = await readFile('/proc/self/net/unix', 'utf8')
  return sockets.split('\n').some((line) => line.endsWith(`/wireguard/${device}.sock`))
}

/**
 * Makes the path of the socket free. It ends a wireguard-go of this namespace whose link has another name by now, by
 * removing its socket, and removes a socket on which no process answers. Errors: DEVICE_TAKEN if a process of another
 * network namespace answers.
 */
async function freeSocket(device: string, signal: AbortSignal): Promise<void> {
  const path = socketOf(device)
  if (await isOurSocket(device)) {
    await rm(path, { force: true })
    // Wait until the old process has ended. Until then it has the UDP port. It ends when it sees no socket at this
    // path, so a socket that the new process made there too early would keep the old process running.
    for (let look = 0; look < RENAMED_LOOKS && (await isOurSocket(device)); look++)
      await delay(RENAMED_LOOK_MS, undefined, { signal })
  }
  if (await answers(path)) {
    throw new HostError({
      code: 'DEVICE_TAKEN',
      message: `another wireguard-go with a device ${device} runs in another network namespace, and both would use the socket ${path}`,
      fix: 'set device (--device, RHIZOME_DEVICE) to another name'
    })
  }
  await rm(path, { force: true })
}

/** The path of the socket on which the wireguard-go of the device answers, also when it runs in another network namespace. */
export function socketOf(device: string): string {
  return `${SOCKET_FOLDER}/${device}.sock`
}

/** Returns whether a process listens on the socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const finish = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    // A connection that is neither refused nor accepted in time means that a process listens but is slow.
    socket.setTimeout(SOCKET_ANSWER_MS, () => finish(true))
    socket.on('connect', () => finish(true))
    socket.on('error', () => finish(false))
  })
}

/**
 * Returns the error for a machine on which neither the kernel nor wireguard-go can make a WireGuard device. `reason`: the
 * words of wireguard-go.
 */
export function noTun(cause?: unknown, reason?: string): HostError {
  return new HostError({
    code: 'NO_TUN',
    message: `the kernel has no WireGuard, and wireguard-go cannot open /dev/net/tun${reason === undefined ? '' : `: ${reason}`}`,
    fix: 'load the kernel module wireguard or tun; in a container pass the device /dev/net/tun, as userspaceWireguard: true does in the chart',
    cause
  })
}
