// Opens a netlink socket (netlink(7)), which is the kernel's own interface to its network, without a tool between. Links,
// routes, rules and WireGuard are read through it (reads.ts). For nftables it is for three things that nft 1.0.6 cannot do
// cheaply, measured with 10,000 services of 10 backends:
//   - to know that nothing has changed: `nft -j list table` takes 4.3 s, also with -t; to read the generation and the
//     queue of events takes 0.1 ms
//   - to change an element on a host with large sets: `add element` and `delete element` of nft first read the elements
//     of every interval set of the host, in any table (2 to 3 s for a set of 200,000 elements); a message with the
//     element takes 0.2 ms
//   - to read events only when asked, and to learn that some were lost (ENOBUFS)
// Three other ways were tried. npm `netlink` ends the process at ENOBUFS. `nft monitor` is a child that also prints
// every change of other tables, and cannot tell our own changes from others' in a container. `nft --debug=mnl` prints
// the generation in a dump for people. The socket calls of the C library come from the package koffi
// (docs/decisions/0033-netlink-through-koffi.md). It is optional: without it, or on a big-endian machine, openNetlink()
// returns undefined and nft does everything, slowly.
// Invariant: no call waits except `send`, which runs on a thread of libuv, because the transaction of another program
// may hold the kernel's lock.
import { closeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { endianness } from 'node:os'

/** A socket that never blocks the event loop. */
export interface NetlinkSocket {
  /** Hands one datagram to the kernel, which has handled and answered it when this resolves. Errors: NetlinkError. */
  send(message: Uint8Array): Promise<void>
  /**
   * Returns the next datagram, which is valid until the next call; undefined: there is none now, or the socket is
   * closed. Throws NetlinkError; with the number of ENOBUFS the kernel has dropped datagrams.
   */
  receive(): Buffer | undefined
  /** Subscribes to a multicast group, whose events `receive` then returns. Throws NetlinkError. */
  join(group: number): void
  /** Asks the kernel to filter lists as the question says (since Linux 4.20); an older kernel gives longer lists. */
  beStrict(): void
  /** Closes the socket. A second call does nothing. */
  close(): void
}

/** A refused call, with the number of errno(3). */
class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly errno: number

  constructor(call: string, errno: number) {
    super(`${call} on a netlink socket failed with error ${errno}`)
    this.errno = errno
  }
}

/** Protocol number of the netfilter subsystems, nftables among them (linux/netlink.h). */
export const NETLINK_NETFILTER = 12
/** Protocol number of links, addresses, routes and rules (rtnetlink(7)). */
export const NETLINK_ROUTE = 0
/** Protocol number of the families that a kernel module adds, such as that of WireGuard. */
export const NETLINK_GENERIC = 16
// Numbers of Linux on x86-64 and arm64.
const EAGAIN = 11
const EINTR = 4

const AF_NETLINK = 16
const SOCKADDR_NL_BYTES = 12
// SOCK_RAW with SOCK_CLOEXEC, so that tools do not inherit the socket, and SOCK_NONBLOCK.
const SOCKET_TYPE = 3 | 0o2000000 | 0o4000
const SOL_SOCKET = 1
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SOL_NETLINK = 270
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_GET_STRICT_CHK = 12

// One send is one transaction: 4,000 elements (ELEMENTS_MAX of load-balancer/nftables/kernel.ts) are 0.5 MB, and the
// kernel counts its own overhead, too.
const SEND_BUFFER_BYTES = 4 << 20
// Room for the events of 10,000 changed elements between two readings. If there are more, the kernel drops events, and
// the table is read again.
const RECEIVE_BUFFER_BYTES = 4 << 20
// Larger than any datagram of the kernel, which fills at most 32 KiB for a dump and 64 KiB for events.
const DATAGRAM_BYTES = 1 << 17

/**
 * Opens a socket in the network namespace of this process. undefined: koffi is missing, the machine is big-endian or
 * not Linux, or the kernel refuses the socket. The caller then uses nft.
 */
export function openNetlink(protocol: number): NetlinkSocket | undefined {
  const libc = loadLibc()
  if (libc === undefined) return undefined
  const fd = libc.socket(AF_NETLINK, SOCKET_TYPE, protocol)
  if (fd < 0) return undefined
  for (const [option, bytes] of [
    [SO_SNDBUFFORCE, SEND_BUFFER_BYTES],
    [SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES]
  ] as const)
    // The kernel refuses this without NET_ADMIN. The result is ignored: the host does not start without NET_ADMIN.
    libc.setsockopt(fd, SOL_SOCKET, option, int(bytes), 4)
  // Port 0 lets the kernel choose one. A socket that is not bound gets no multicast.
  const address = Buffer.alloc(SOCKADDR_NL_BYTES)
  address.writeUInt16LE(AF_NETLINK)
  if (libc.bind(fd, address, address.length) < 0) {
    closeSync(fd)
    return undefined
  }
  const buffer = Buffer.alloc(DATAGRAM_BYTES)
  let open = true
  return {
    send: (message) =>
      new Promise((resolve, reject) => {
        libc.send.async(fd, message, message.length, 0, (error, result) => {
          if (error !== null) reject(error)
          else if (result < 0)
            reject(new NetlinkError('send', EIO)) // errno is that of the other thread and cannot be read here
          else resolve()
        })
      }),
    receive() {
      for (;;) {
        const length = open ? libc.recv(fd, buffer, buffer.length, 0) : 0
        if (length >= 0) return length === 0 ? undefined : buffer.subarray(0, length)
        const errno = libc.errno()
        if (errno === EAGAIN) return undefined
        if (errno !== EINTR) throw new NetlinkError('recv', errno)
      }
    },
    join(group) {
      if (libc.setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int(group), 4) < 0)
        throw new NetlinkError('join', libc.errno())
    },
    beStrict() {
      libc.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, int(1), 4)
    },
    close() {
      if (open) closeSync(fd)
      open = false
    }
  }
}

const EIO = 5

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}

/** The calls of the C library that are used, as in socket(2). A negative result means an error; errno() tells which. */
interface Libc {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array, length: number): number
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number
  readonly send: {
    async(
      fd: number,
      buffer: Uint8Array,
      length: number,
      flags: number,
      done: (error: Error | null, result: number) => void
    ): void
  }
  errno(): number
}

// koffi is looked for once in each process.
let loaded: { readonly libc: Libc | undefined } | undefined

function loadLibc(): Libc | undefined {
  return (loaded ??= { libc: tryLibc() }).libc
}

/** Every failure means that koffi is missing or has no binary for this platform. */
function tryLibc(): Libc | undefined {
  if (process.platform !== 'linux' || endianness() !== 'LE') return undefined
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi
    const library = koffi.load(null)
    return {
      socket: library.func('int socket(int, int, int)'),
      bind: library.func('int bind(int, const void*, uint)'),
      setsockopt: library.func('int setsockopt(int, int, int, const void*, uint)'),
      recv: library.func('long recv(int, _Out_ void*, size_t, int)'),
      send: library.func('long send(int, const void*, size_t, int)') as unknown as Libc['send'],
      errno: () => koffi.errno()
    }
  } catch {
    return undefined
  }
}

/** The used part of koffi. Its own types cannot be imported, because the package is optional. */
interface Koffi {
  load(path: null): { func(declaration: string): (...args: never[]) => number }
  errno(): number
}
