// To be imported first: what runs here may talk to loopback and to nothing besides.

import dns from "node:dns";
import net from "node:net";

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost", undefined]);

function guard(host) {
  if (!LOOPBACK.has(host)) {
    console.error(`FAILED: something wants to talk to ${host}, which is not loopback`);
    process.exit(3);
  }
}

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const options = Array.isArray(args[0]) ? args[0][0] : args[0];
  guard(typeof options === "object" ? options.host : typeof args[1] === "string" ? args[1] : undefined);
  return connect.apply(this, args);
};

const lookup = dns.lookup;
dns.lookup = (host, ...rest) => {
  guard(host);
  return lookup(host, ...rest);
};
