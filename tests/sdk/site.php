<?php
// A site behind a front controller, on PHP's own server: answers with what it was asked for and the
// header that says who verified it.
header('Content-Type: application/json');
echo json_encode([
    'path' => rawurldecode(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)),
    'verified' => $_SERVER['HTTP_HOOKWARD_VERIFIED'] ?? null,
    'moved' => $_SERVER['HTTP_X_FORWARDED_PREFIX'] ?? $_SERVER['HTTP_SCRIPT_NAME'] ?? null,
], JSON_UNESCAPED_SLASHES);
