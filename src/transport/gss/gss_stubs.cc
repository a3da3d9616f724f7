// The GSSAPI functions that Debian's libssh.a refers to, as thin definitions that load
// libgssapi_krb5.so.2 on first use: the binary stays one file, and GSSAPI works where Kerberos is
// installed. Types are spelled as their ABI (RFC 2744: handles are pointers, OM_uint32 is 32 bits),
// so that no Kerberos headers are needed. A directory of its own, because this archive has to
// follow libssh.a on the linker's command line.
#include <dlfcn.h>

#include <cstdint>

namespace {

using OmUint32 = uint32_t;
using Handle = void*;

constexpr OmUint32 kUnavailable = 16u << 16;  // GSS_S_UNAVAILABLE

void* library() {
  static void* const handle = ::dlopen("libgssapi_krb5.so.2", RTLD_NOW | RTLD_LOCAL);
  return handle;
}

template <typename... Args>
OmUint32 forward(const char* name, OmUint32* minor, Args... args) {
  using Function = OmUint32 (*)(OmUint32*, Args...);
  void* const symbol = library() == nullptr ? nullptr : ::dlsym(library(), name);
  if (symbol == nullptr) {
    if (minor != nullptr) *minor = 0;
    return kUnavailable;
  }
  return reinterpret_cast<Function>(symbol)(minor, args...);
}

struct OidDescription {
  OmUint32 length;
  const void* elements;
};

// {iso(1) member-body(2) us(840) mit(113554) infosys(1) gssapi(2) generic(1) …}, RFC 2744 app. A.
const OidDescription kHostBasedService{10, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04"};
const OidDescription kUserName{10, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x01"};

}  // namespace

extern "C" {

const OidDescription* GSS_C_NT_HOSTBASED_SERVICE = &kHostBasedService;
const OidDescription* GSS_C_NT_USER_NAME = &kUserName;

OmUint32 gss_accept_sec_context(OmUint32* minor, Handle a, Handle b, Handle c, Handle d, Handle e,
                                Handle f, Handle g, Handle h, Handle i, Handle j) {
  return forward("gss_accept_sec_context", minor, a, b, c, d, e, f, g, h, i, j);
}
OmUint32 gss_acquire_cred(OmUint32* minor, Handle name, OmUint32 time, Handle mechs, int usage,
                          Handle out, Handle actual, Handle time_rec) {
  return forward("gss_acquire_cred", minor, name, time, mechs, usage, out, actual, time_rec);
}
OmUint32 gss_add_oid_set_member(OmUint32* minor, Handle a, Handle b) {
  return forward("gss_add_oid_set_member", minor, a, b);
}
OmUint32 gss_create_empty_oid_set(OmUint32* minor, Handle a) {
  return forward("gss_create_empty_oid_set", minor, a);
}
OmUint32 gss_display_name(OmUint32* minor, Handle a, Handle b, Handle c) {
  return forward("gss_display_name", minor, a, b, c);
}
OmUint32 gss_display_status(OmUint32* minor, OmUint32 status, int type, Handle mech, Handle context,
                            Handle out) {
  return forward("gss_display_status", minor, status, type, mech, context, out);
}
OmUint32 gss_get_mic(OmUint32* minor, Handle context, OmUint32 qop, Handle message, Handle token) {
  return forward("gss_get_mic", minor, context, qop, message, token);
}
OmUint32 gss_import_name(OmUint32* minor, Handle a, Handle b, Handle c) {
  return forward("gss_import_name", minor, a, b, c);
}
OmUint32 gss_indicate_mechs(OmUint32* minor, Handle a) {
  return forward("gss_indicate_mechs", minor, a);
}
OmUint32 gss_init_sec_context(OmUint32* minor, Handle cred, Handle context, Handle target,
                              Handle mech, OmUint32 flags, OmUint32 time, Handle bindings,
                              Handle in, Handle actual, Handle out, Handle ret_flags,
                              Handle time_rec) {
  return forward("gss_init_sec_context", minor, cred, context, target, mech, flags, time, bindings,
                 in, actual, out, ret_flags, time_rec);
}
OmUint32 gss_inquire_cred(OmUint32* minor, Handle a, Handle b, Handle c, Handle d, Handle e) {
  return forward("gss_inquire_cred", minor, a, b, c, d, e);
}
OmUint32 gss_inquire_cred_by_mech(OmUint32* minor, Handle a, Handle b, Handle c, Handle d, Handle e,
                                  Handle f) {
  return forward("gss_inquire_cred_by_mech", minor, a, b, c, d, e, f);
}
OmUint32 gss_release_buffer(OmUint32* minor, Handle a) {
  return forward("gss_release_buffer", minor, a);
}
OmUint32 gss_release_cred(OmUint32* minor, Handle a) {
  return forward("gss_release_cred", minor, a);
}
OmUint32 gss_release_name(OmUint32* minor, Handle a) {
  return forward("gss_release_name", minor, a);
}
OmUint32 gss_release_oid_set(OmUint32* minor, Handle a) {
  return forward("gss_release_oid_set", minor, a);
}
OmUint32 gss_test_oid_set_member(OmUint32* minor, Handle a, Handle b, Handle c) {
  return forward("gss_test_oid_set_member", minor, a, b, c);
}
OmUint32 gss_verify_mic(OmUint32* minor, Handle a, Handle b, Handle c, Handle d) {
  return forward("gss_verify_mic", minor, a, b, c, d);
}

}  // extern "C"
